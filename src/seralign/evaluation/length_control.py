"""Length-controlled win rates on any prompts (2404.04475), with intervals that refit the model. Pure.

Dimension letters: N outcomes, B bootstrap samples.

The log-odds that the policy beats the baseline on prompt x are ``theta + phi t_x + psi gamma_x``: its strength, the
effect of length (t: tanh of the length difference in standard deviations), and the ease of the prompt as other policies
show it. The length-controlled win rate is the mean prediction with t = 0, as if all responses were equally long.

AlpacaEval estimates gamma once for its own prompts, and keeps phi from growing by two more baselines that were told to
be verbose and to be concise. Here both come from the user's other policies on the same prompts: gamma from a joint
model of their outcomes, and for phi its distribution over those policies as a prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seralign.evaluation.bootstrap import cluster_bootstrap, is_enough, without_ends
from seralign.evaluation.difficulty import Outcomes, prompt_difficulty
from seralign.evaluation.logistic import Normal, fit_logistic
from seralign.intervals import Interval, share_interval

# Weak priors: a policy that wins or loses everything still has a finite strength. The joint model has gamma with a
# coefficient of one.
_STRENGTH, _LENGTH, _EASE = Normal(0.0, 0.01), Normal(0.0, 0.1), Normal(1.0, 0.1)


@dataclass(frozen=True, slots=True)
class LengthControl:
    """A length-controlled win rate.

    Args:
        win_rate: Without control, with the interval of ``seralign.intervals.share_interval``.
        controlled: The win rate if all responses were equally long; its interval refits the model to each bootstrap
            sample of prompts, and is left out with too few outcomes (``seralign.evaluation.bootstrap.is_enough``). None
            if all length differences are the same, but not zero: the effect of length and the policy's strength cannot
            then be separated.
        length_effect: phi in log-odds: what a response that is much longer gains; half of its range, since t goes from
            -1 to 1. None, or without an interval, as above.
        standard_error: Of the controlled win rate, over the bootstrap samples. None without an interval.
        unfitted_standard_error: That of the mean of the predictions if the model were known, as alpaca_eval reports
            it. Too small: it leaves out the error of the fit.
        other_policies: Number of policies that difficulty comes from.
    """

    win_rate: Interval
    controlled: Interval | None
    length_effect: Interval | None
    standard_error: float | None
    unfitted_standard_error: float | None
    other_policies: int


def length_control(
    outcomes: Outcomes,
    others: Sequence[Outcomes] = (),
    *,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> LengthControl:
    """The length-controlled win rate of a policy against the baseline.

    Args:
        outcomes: Of the policy. Outcomes with the same prompt are one cluster.
        others: Of other policies against the same baseline. Without any, the model has no term for difficulty.
        level: Confidence level.
        samples: Number of bootstrap samples. Difficulty and the prior are not estimated again.
        seed: Seed of the samples.

    Raises:
        ValueError: The policy has no outcome.
    """
    others = [other for other in others if other.better.size]
    plain = share_interval(outcomes.better, list(outcomes.prompts), level)
    if plain is None:
        raise ValueError("length control needs at least one outcome")
    same = outcomes.longer[0]
    if same != 0 and np.all(outcomes.longer == same):
        return LengthControl(plain, None, None, None, None, len(others))
    priors, ease = [_STRENGTH, _LENGTH], None
    if others:
        difficulty = prompt_difficulty(others)
        # A prompt that no other policy answered is of mean difficulty.
        ease = np.array([difficulty.ease.get(prompt, 0.0) for prompt in outcomes.prompts])
        priors = [_STRENGTH, difficulty.length or _LENGTH, _EASE]
    model = _Model(outcomes.better, outcomes.longer, ease, priors)
    known = model.fit(np.ones((1, outcomes.better.size)))

    def statistic(weights: np.ndarray) -> np.ndarray:
        fitted = model.fit(weights, known)
        predicted = model.predict(fitted)
        return np.stack([(weights * predicted).sum(1) / weights.sum(1), fitted[:, 1]], 1)

    found = cluster_bootstrap(outcomes.prompts, statistic, samples=samples, seed=seed)
    controlled, effect = found.intervals(level)
    if not is_enough(outcomes.better, outcomes.prompts):
        return LengthControl(plain, without_ends(controlled), without_ends(effect), None, None, len(others))
    spread = float(model.predict(known)[0].std(ddof=1) / outcomes.better.size**0.5)
    error = float(found.standard_error()[0])
    return LengthControl(plain, controlled, effect, error, spread, len(others))


def length_controls(
    policies: Mapping[str, Outcomes], *, level: float = 0.95, samples: int = 1000, seed: int = 0
) -> dict[str, LengthControl]:
    """The length-controlled win rate of each policy, by name; each with the others' outcomes as ``others``.

    All policies were compared with the same baseline. Arguments and errors are those of ``length_control``.
    """
    return {
        name: length_control(
            outcomes,
            [other for rival, other in policies.items() if rival != name],
            level=level,
            samples=samples,
            seed=seed,
        )
        for name, outcomes in policies.items()
    }


@dataclass(frozen=True)
class _Model:
    """The model of one policy, for several weightings of its outcomes at once.

    Args:
        better: [N].
        longer: [N].
        ease: [N]; None for a model without it.
        priors: Of the coefficients: strength, length, ease.
    """

    better: np.ndarray
    longer: np.ndarray
    ease: np.ndarray | None
    priors: Sequence[Normal]

    def fit(self, weights: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Coefficients [B, 2 or 3] for weights [B, N]; ``start`` [1, 2 or 3]: where the fit begins."""
        columns = [np.ones(self.better.size), self._terms(weights)]
        if self.ease is not None:
            columns.append(self.ease)
        return fit_logistic(columns, self.better, weights, self.priors, start)

    def predict(self, fitted: np.ndarray) -> np.ndarray:
        """Chances [B, N] if all responses were equally long."""
        odds = fitted[:, [0]] + (0.0 if self.ease is None else fitted[:, [2]] * self.ease)
        return 1 / (1 + np.exp(-np.broadcast_to(odds, (len(fitted), self.better.size))))

    def _terms(self, weights: np.ndarray) -> np.ndarray:
        """``length_term`` of each weighting [B, N]: the standard deviation is that of its rows."""
        total = weights.sum(1)
        centred = self.longer - self.longer.mean()
        square, mean = weights @ centred**2 / total, weights @ centred / total
        scale = np.sqrt(np.maximum(square - mean**2, 0) * total / np.maximum(total - 1, 1))
        known = scale > 0
        return np.where(known[:, None], np.tanh(self.longer / np.where(known, scale, 1.0)[:, None]), 0.0)

"""How hard prompts are, and how much length counts, from the outcomes of several policies against one baseline. Pure.

Dimension letters: R outcomes of P policies on Q prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from seralign.evaluation.logistic import Normal
from seralign.intervals import finite

# Precisions of the normal priors. That of prompts is the unit of the model: difficulties have a variance of about one.
_PROMPTS, _POLICIES = 1.0, 0.1
# With fewer policies, how much the effect of length varies between them is not known.
_POOLED = 3
_ROUNDS, _EXACT = 200, 1e-5


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of a policy against a baseline.

    Args:
        prompts: Name of each outcome's prompt [N].
        better: Probability that the policy's response is better than the baseline's [N].
        longer: Length of the policy's response minus that of the baseline's, in any unit [N].

    Raises:
        ValueError: The lengths differ, a value is not finite, or a probability is not in [0, 1].
    """

    prompts: Sequence[str]
    better: np.ndarray
    longer: np.ndarray

    def __post_init__(self) -> None:
        better, longer = finite(self.better, "better"), finite(self.longer, "longer")
        if not len(self.prompts) == better.size == longer.size:
            sizes = f"{len(self.prompts)}, {better.size} and {longer.size}"
            raise ValueError(f"prompts, better and longer must be equally long, got {sizes}")
        if better.size and (better.min() < 0 or better.max() > 1):
            raise ValueError(f"better must be within [0, 1], got {better.min()} to {better.max()}")
        object.__setattr__(self, "better", better)
        object.__setattr__(self, "longer", longer)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What several policies say about prompts.

    Args:
        ease: Of each prompt by name: what is added to the log-odds that a policy beats the baseline on it. About zero
            on average.
        length: How the effect of length is distributed over policies; None with fewer than three of them.
    """

    ease: dict[str, float]
    length: Normal | None


def prompt_difficulty(policies: Sequence[Outcomes]) -> Difficulty:
    """Fit one model to the outcomes of all policies.

    The log-odds that policy m beats the baseline on prompt x are ``theta_m + phi_m t_mx + gamma_x``: the policy's
    strength, the effect of length (``t`` is ``length_term``), and the ease of the prompt. Priors: standard normal on
    gamma, normal with variance 10 on theta and phi. It is fitted by Newton steps on gamma and on (theta, phi) in turn.
    The distribution of phi over policies is that of DerSimonian and Laird (1986).

    Raises:
        ValueError: There is no outcome.
    """
    policies = [outcomes for outcomes in policies if outcomes.better.size]
    if not policies:
        raise ValueError("the difficulty of prompts needs outcomes of at least one policy")
    names: dict[str, int] = {}
    prompt = np.array([names.setdefault(name, len(names)) for one in policies for name in one.prompts])
    policy = np.repeat(np.arange(len(policies)), [one.better.size for one in policies])
    better = np.concatenate([one.better for one in policies])
    term = np.concatenate([length_term(one.longer) for one in policies])
    ease, theta, phi = np.zeros(len(names)), np.zeros(len(policies)), np.zeros(len(policies))

    def slopes() -> tuple[np.ndarray, np.ndarray]:
        """Derivative and curvature of the log-likelihood by each outcome's log-odds [R]."""
        chance = 1 / (1 + np.exp(-(theta[policy] + phi[policy] * term + ease[prompt])))
        return better - chance, chance * (1 - chance)

    def by_policy(values: np.ndarray) -> np.ndarray:
        return np.bincount(policy, values, len(policies))

    variance = np.ones(len(policies))
    for _ in range(_ROUNDS):
        slope, curve = slopes()
        step = np.bincount(prompt, slope, len(names)) - _PROMPTS * ease
        step /= np.bincount(prompt, curve, len(names)) + _PROMPTS
        ease = ease + step
        slope, curve = slopes()
        to_theta, to_phi = by_policy(slope) - _POLICIES * theta, by_policy(slope * term) - _POLICIES * phi
        a, b, c = by_policy(curve) + _POLICIES, by_policy(curve * term), by_policy(curve * term**2) + _POLICIES
        determinant = a * c - b * b
        steps = np.stack([c * to_theta - b * to_phi, a * to_phi - b * to_theta]) / determinant
        theta, phi = np.array([theta, phi]) + np.clip(steps, -2, 2)
        variance = a / determinant
        if max(np.abs(step).max(), np.abs(steps).max()) < _EXACT:
            break
    pooled = _pooled(phi, variance) if len(policies) >= _POOLED else None
    return Difficulty(dict(zip(names, ease.tolist(), strict=True)), pooled)


def length_term(longer: ArrayLike) -> np.ndarray:
    """The hyperbolic tangent of length differences in units of their standard deviation [N] (2404.04475).

    Zero where the responses are equally long. All one where all differences are the same.
    """
    differences = finite(longer, "longer")
    scale = float(differences.std(ddof=1)) if differences.size > 1 else 0.0
    return np.tanh(differences / scale) if scale > 0 else np.sign(differences)


def _pooled(effects: np.ndarray, variance: np.ndarray) -> Normal:
    """Of a new policy's effect: the mean, and the inverse of the variance between policies and of the mean itself."""
    weight = 1 / variance
    mean = float(weight @ effects / weight.sum())
    excess = float(weight @ (effects - mean) ** 2) - (len(effects) - 1)
    between = max(0.0, excess / float(weight.sum() - weight @ weight / weight.sum()))
    weight = 1 / (variance + between)
    return Normal(float(weight @ effects / weight.sum()), 1 / (between + 1 / float(weight.sum())))

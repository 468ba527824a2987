"""How good a judge is where the truth is known: accuracy by gap, biases by position and by length, and what they do to
win rates. Pure: arrays in, figures out.

Dimension letters: N comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seralign.evaluation.bootstrap import LEAST_PROMPTS, cluster_bootstrap, without_ends
from seralign.evaluation.difficulty import Outcomes, length_term
from seralign.evaluation.length_control import length_controls
from seralign.evaluation.logistic import Normal, fit_logistic
from seralign.evaluation.verdict_figures import verdict_figures
from seralign.intervals import Interval, finite, outcomes, share_interval

# Weak, so that a judge that follows the gold reward without error still has a finite effect of it.
_PRIOR = Normal(0.0, 0.01)
_GAPS = 4


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdicts on N comparisons whose truth is known.

    Args:
        prompts: Name of each prompt [N].
        first_better: The judge's probability that the first response is better [N]; None without a verdict.
        orders: The same when the first response was shown first, and when it was shown second [N]; None where only one
            order was asked.
        gold: Gold reward of the first response minus that of the second [N].
        longer: Length of the first response minus that of the second [N].
    """

    prompts: Sequence[str]
    first_better: Sequence[float | None]
    orders: Sequence[tuple[float, float] | None]
    gold: np.ndarray
    longer: np.ndarray

    def __post_init__(self) -> None:
        gold, longer = finite(self.gold, "gold"), finite(self.longer, "longer")
        sizes = {len(self.prompts), len(self.first_better), len(self.orders), gold.size, longer.size}
        if len(sizes) > 1:
            raise ValueError(f"all columns must be equally long, got {sorted(sizes)}")


@dataclass(frozen=True, slots=True)
class GapAccuracy:
    """Accuracy on the comparisons whose gold rewards differ by ``smallest`` to ``largest``."""

    smallest: float
    largest: float
    accuracy: Interval


@dataclass(frozen=True, slots=True)
class JudgeCalibration:
    """What a judge does.

    The effects are log-odds of one logistic regression of the verdicts in each order on the difference in gold, the
    length term (``seralign.evaluation.difficulty.length_term``, from -1 to 1) and the position (1 if the first
    response was shown first, -1 if second); an unbiased judge has zero for the last two. Intervals are a bootstrap over
    prompts; with fewer than 10 prompts, the effects have none (``seralign.evaluation.bootstrap.LEAST_PROMPTS``).

    Args:
        comparisons: N.
        unread: Comparisons without a verdict.
        accuracy: Share of the comparisons with a gold difference whose better response the judge prefers, both orders
            averaged; ties count one half.
        by_gap: The same by the size of the gold difference, from small to large.
        position_bias: What the first place gains, as a share; see ``seralign.evaluation.verdict_figures``.
        self_agreement: Share of the comparisons on which both orders agree.
        gold_effect: Log-odds of one unit of gold.
        length_effect: Log-odds of a much longer response; None if all lengths are equal.
        position_effect: Log-odds of the first place; None unless both orders were asked.
    """

    comparisons: int
    unread: int
    accuracy: Interval | None
    by_gap: tuple[GapAccuracy, ...]
    position_bias: Interval | None
    self_agreement: Interval | None
    gold_effect: Interval | None
    length_effect: Interval | None
    position_effect: Interval | None


@dataclass(frozen=True, slots=True)
class RateCheck:
    """Win rates of a policy against a baseline: the true one, and those that a judge gives.

    Args:
        policy: Its name.
        gold: By gold reward.
        shown_first: By the judge, with the policy's response always in the first place; None if only one order was
            asked.
        shown_second: The same for the second place.
        both: With both orders averaged.
        controlled: The last one, length-controlled.
    """

    policy: str
    gold: Interval
    shown_first: Interval | None
    shown_second: Interval | None
    both: Interval | None
    controlled: Interval | None


def judge_calibration(judged: Judged, *, samples: int = 500, seed: int = 0) -> JudgeCalibration:
    """Measure a judge on comparisons whose truth is known.

    Args:
        judged: Its verdicts.
        samples: Number of bootstrap samples.
        seed: Seed of the samples.

    Raises:
        ValueError: A probability is not in [0, 1].
    """
    figures = verdict_figures(judged.first_better, judged.orders, judged.prompts)
    gold = np.asarray(judged.gold, np.float64)
    known = [at for at, better in enumerate(judged.first_better) if better is not None and gold[at] != 0]
    agreed = np.array([_agreement(judged, at) for at in known])
    names = [judged.prompts[at] for at in known]
    effects = _effects(judged, samples, seed)
    return JudgeCalibration(
        comparisons=figures.comparisons,
        unread=figures.unread,
        accuracy=share_interval(agreed, names),
        by_gap=_by_gap(np.abs(gold[known]), agreed, names),
        position_bias=figures.position_bias,
        self_agreement=figures.self_agreement,
        gold_effect=effects[0],
        length_effect=effects[1],
        position_effect=effects[2],
    )


def rate_checks(policies: Mapping[str, Judged], *, samples: int = 500, seed: int = 0) -> list[RateCheck]:
    """The win rates of several policies against one baseline, by gold and by the judge, in the order of the policies.

    Args:
        policies: Verdicts by policy; its responses are the first ones, and the baseline's the second.
        samples: Number of bootstrap samples.
        seed: Seed of the samples.
    """
    known = {
        name: Outcomes(
            [judged.prompts[at] for at in read],
            np.array([judged.first_better[at] for at in read], np.float64),
            np.asarray(judged.longer, np.float64)[read],
        )
        for name, judged in policies.items()
        if (read := [at for at, better in enumerate(judged.first_better) if better is not None])
    }
    controls = length_controls(known, samples=samples, seed=seed)
    checks = []
    for name, judged in policies.items():
        gold = share_interval(outcomes(judged.gold, np.zeros(len(judged.prompts))), list(judged.prompts))
        if gold is None:
            continue
        both = [(prompt, order) for prompt, order in zip(judged.prompts, judged.orders, strict=True) if order]
        asked = [prompt for prompt, _ in both]
        first, second = (share_interval([order[side] for _, order in both], asked) for side in (0, 1))
        control = controls.get(name)
        rate, controlled = (None, None) if control is None else (control.win_rate, control.controlled)
        checks.append(RateCheck(name, gold, first, second, rate, controlled))
    return checks


def _agreement(judged: Judged, at: int) -> float:
    """How far the winners of the asked orders are the better response, by gold."""
    order, better = judged.orders[at], judged.first_better[at]
    asked = np.array([better] if order is None else order, np.float64)
    winners = outcomes(asked, np.full(asked.size, 0.5))
    share = float(winners.mean())
    return share if judged.gold[at] > 0 else 1 - share


def _by_gap(gaps: np.ndarray, agreed: np.ndarray, names: Sequence[str]) -> tuple[GapAccuracy, ...]:
    """Up to four parts with about equally many comparisons; equal gaps are never in two parts."""
    if not gaps.size:
        return ()
    edges = np.unique(np.quantile(gaps, np.arange(1, _GAPS) / _GAPS, method="lower"))
    part, found = np.searchsorted(edges, gaps, "left"), []
    for number in np.unique(part):
        here = np.flatnonzero(part == number).tolist()
        accuracy = share_interval(agreed[here], [names[at] for at in here])
        assert accuracy is not None
        found.append(GapAccuracy(float(gaps[here].min()), float(gaps[here].max()), accuracy))
    return tuple(found)


def _effects(judged: Judged, samples: int, seed: int) -> list[Interval | None]:
    """Log-odds of gold, length and position."""
    term, rows = length_term(judged.longer), list[tuple[int, float, float]]()
    for at, (better, order) in enumerate(zip(judged.first_better, judged.orders, strict=True)):
        if order is not None and better is not None:
            rows += [(at, order[0], 1.0), (at, order[1], -1.0)]
        elif better is not None:
            rows.append((at, better, 0.0))
    if not rows:
        return [None, None, None]
    at = np.array([row[0] for row in rows])
    better, place = np.array([row[1:] for row in rows], np.float64).T
    columns = [np.asarray(judged.gold, np.float64)[at], term[at], place]
    asked = [judged.prompts[row] for row, _, _ in rows]
    priors = [_PRIOR] * 3
    known = fit_logistic(columns, better, np.ones((1, len(rows))), priors)
    found = cluster_bootstrap(
        asked, lambda weights: fit_logistic(columns, better, weights, priors, known), samples=samples, seed=seed
    ).intervals()
    if len(set(asked)) < LEAST_PROMPTS:
        found = [without_ends(interval) for interval in found]
    return [interval if np.any(column != 0) else None for interval, column in zip(found, columns, strict=True)]

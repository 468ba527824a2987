"""What verdicts say together: win rate, ties, position bias, and whether both orders agree. Pure: arrays in, figures
out.

Dimension letters: N comparisons. All figures are shares, so their intervals are those of
``seralign.intervals.share_interval``, with the comparisons of a prompt as one group. With few prompts it covers
better than a bootstrap (docs/statistics.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from seralign.intervals import Interval, share_interval


@dataclass(frozen=True, slots=True)
class VerdictFigures:
    """Figures of N comparisons of two policies.

    Args:
        comparisons: N.
        unread: Comparisons without a verdict. They are in no other figure.
        win_rate: Mean probability that the first response is better; a tie counts one half.
        tie_rate: Share of the verdicts that are ties: one half exactly, as where both orders contradict each other.
        position_bias: How much the place that is shown first gains over one half, in [-0.5, 0.5]. 0.1: a judge of
            two equal responses prefers the first place in 60 of 100 cases. None unless both orders were asked.
        self_agreement: Share of the comparisons on which both orders name the same winner, or are both ties. One tie
            counts one half. None unless both orders were asked.
    """

    comparisons: int
    unread: int
    win_rate: Interval | None
    tie_rate: Interval | None
    position_bias: Interval | None
    self_agreement: Interval | None


def verdict_figures(
    first_better: Sequence[float | None] | ArrayLike,
    orders: Sequence[tuple[float, float] | None] | None = None,
    prompts: Sequence[str] | None = None,
    level: float = 0.95,
) -> VerdictFigures:
    """Figures of N comparisons.

    Args:
        first_better: Probability that the first response is better [N]; None (or NaN) without a verdict.
        orders: The same probability when asked in the given order and in the swapped one [N]; None where only one
            order was asked.
        prompts: Name of each comparison's prompt [N]. By default, all prompts are different.
        level: Confidence level.

    Raises:
        ValueError: A probability is not in [0, 1], or the lengths differ.
    """
    better = np.array([np.nan if value is None else value for value in np.asarray(first_better, object)], np.float64)
    for name, values in (("orders", orders), ("prompts", prompts)):
        if values is not None and len(values) != better.size:
            raise ValueError(f"{name} must have one value for each comparison, got {len(values)} for {better.size}")
    names = [str(place) for place in range(better.size)] if prompts is None else list(prompts)
    read = ~np.isnan(better)
    both = [place for place in np.flatnonzero(read).tolist() if orders is not None and orders[place] is not None]
    asked = [] if orders is None else [orders[place] for place in both]
    given, swapped = np.array(asked, np.float64).reshape(-1, 2).T
    first_place, agreement = (given + 1 - swapped) / 2, 1 - np.abs(_winner(given) - _winner(swapped))
    bias = share_interval(first_place, [names[place] for place in both], level)
    of_read = [names[place] for place in np.flatnonzero(read).tolist()]
    return VerdictFigures(
        comparisons=better.size,
        unread=int((~read).sum()),
        win_rate=share_interval(better[read], of_read, level),
        tie_rate=share_interval((_winner(better[read]) == 0.5).astype(float), of_read, level),
        position_bias=None if bias is None else _less_half(bias),
        self_agreement=share_interval(agreement, [names[place] for place in both], level),
    )


def _winner(probability: np.ndarray) -> np.ndarray:
    """1 for the first response, 0 for the second, 0.5 for a tie [N]."""
    # Means of probabilities can miss one half by rounding.
    return 0.5 + 0.5 * np.sign(np.round(probability - 0.5, 9))


def _less_half(share: Interval) -> Interval:
    low, high = (None if end is None else end - 0.5 for end in (share.low, share.high))
    return replace(share, mean=share.mean - 0.5, low=low, high=high)

"""Means and shares with confidence intervals, and correlations. All measurements use these functions. Pure.

Dimension letters: N values, one for each prompt or pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of ``n`` values with its confidence interval; the bounds are ``None`` if there is only one value."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON; the inverse is ``Interval(**values)``."""
        return asdict(self)


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval | None:
    """Student's t interval of the mean of independent values [N]; ``None`` for no values.

    Raises:
        ValueError: A value is not finite, or ``level`` is not between 0 and 1.
    """
    array = finite(values, "values")
    if array.size == 0:
        return None
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, None, None, 1)
    half = t_quantile(level, array.size - 1) * float(array.std(ddof=1)) / math.sqrt(array.size)
    return Interval(mean, mean - half, mean + half, array.size)


def share_interval(outcomes: ArrayLike, groups: Sequence[str] | None = None, level: float = 0.95) -> Interval | None:
    """The mean of outcomes in [0, 1] [N] with Wilson's (1927) score interval; ``None`` without outcomes.

    An outcome between 0 and 1 (a tie, a soft label) varies less than one of 0 or 1. With s the mean of y (1 - y), the
    interval is all mu with (m - mu)^2 <= c V(mu), where V(mu) = mu (1 - mu) - s / (1 + c) and c = z^2 / n. s is shrunk
    so that the interval never has zero width. For outcomes of 0 and 1 this is Wilson's interval. It is within [0, 1].

    Outcomes of one group (pairs of one prompt) are not independent. n is then the effective sample size of Korn and
    Graubard (1998), n / deff * (t(N - 1) / t(G - 1))^2. deff, at least 1, is the factor by which the variance between
    the G groups increases the variance of the mean, and t is Student's quantile. If all outcomes are equal, n is G.

    Args:
        outcomes: [N], in [0, 1].
        groups: Name of each outcome's group [N]; by default each outcome is a group.
        level: Confidence level.

    Raises:
        ValueError: An outcome is not finite or not in [0, 1], or ``groups`` has another length.
    """
    array = finite(outcomes, "outcomes")
    if array.size == 0:
        return None
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"outcomes must be within [0, 1], got {array.min()} to {array.max()}")
    mean, spread = float(array.mean()), float(np.mean(array * (1 - array)))
    c = _z(level) ** 2 / _effective_size(array, groups, level)
    shrunk = 4 * spread / (1 + c)
    root = math.sqrt(max(0.0, c * (4 * mean * (1 - mean) - shrunk + c * (1 - shrunk))))
    low, high = ((2 * mean + c + sign * root) / (2 * (1 + c)) for sign in (-1, 1))
    return Interval(mean, max(0.0, low), min(1.0, high), array.size)


def outcomes(scores_a: ArrayLike, scores_b: ArrayLike) -> np.ndarray:
    """For each prompt 1 if a scores higher than b, 0 if it scores lower, 1/2 for a tie [N].

    Their ``share_interval`` is the win rate of a against b.

    Raises:
        ValueError: A score is not finite, or the lengths differ.
    """
    a, b = finite(scores_a, "scores_a"), finite(scores_b, "scores_b")
    if a.shape != b.shape:
        raise ValueError(f"both must have scores of the same prompts, got {a.size} and {b.size}")
    return 0.5 + 0.5 * np.sign(a - b)


def correlation(x: ArrayLike, y: ArrayLike) -> float | None:
    """Pearson's correlation of x and y [N]; ``None`` if it is undefined (fewer than two values, or a constant).

    Raises:
        ValueError: A value is not finite, or the lengths differ.
    """
    x, y = finite(x, "x"), finite(y, "y")
    if x.shape != y.shape:
        raise ValueError(f"x and y must have the same length, got {x.size} and {y.size}")
    # The deviations of a constant can round to something other than zero, so compare the values themselves.
    if x.size < 2 or x.min() == x.max() or y.min() == y.max():
        return None
    dx, dy = x - x.mean(), y - y.mean()
    scale = float(np.linalg.norm(dx) * np.linalg.norm(dy))
    if scale == 0.0:
        return None
    return float(np.clip(dx @ dy / scale, -1.0, 1.0))


def finite(values: ArrayLike, name: str) -> np.ndarray:
    """Values as float64 [N].

    Raises:
        ValueError: There is not exactly one dimension, or a value is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name} must be finite, got {array[bad[0]]} at index {bad[0]}")
    return array


@lru_cache(maxsize=256)
def t_quantile(level: float, degrees: int) -> float:
    """Student's t with P(|T| <= t) = level, from the closed form of Abramowitz and Stegun 26.7.3 and 26.7.4 by
    bisection of the angle arctan(t / sqrt(degrees))."""
    _check_level(level)
    odd = degrees % 2
    powers = np.arange(odd, degrees - 1, 2)
    coefficients = np.cumprod(np.concatenate([[1.0], (powers[:-1] + 1) / (powers[:-1] + 2)]))[: len(powers)]
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        series = math.sin(angle) * float(coefficients @ math.cos(angle) ** powers)
        inside = (angle + series) * 2 / math.pi if odd else series
        low, high = (angle, high) if inside < level else (low, angle)
    return math.sqrt(degrees) * math.tan(low)


def _effective_size(outcomes: np.ndarray, groups: Sequence[str] | None, level: float) -> float:
    """The number of independent outcomes with the same information."""
    n = outcomes.size
    if groups is None:
        return float(n)
    if len(groups) != n:
        raise ValueError(f"groups must have one name for each outcome, got {len(groups)} for {n}")
    _, places = np.unique(np.asarray(groups), return_inverse=True)
    count = int(places.max()) + 1
    apart = outcomes - outcomes.mean()
    simple = float(apart @ apart) / (n * (n - 1)) if n > 1 else 0.0
    if count == n:
        return float(n)
    if count == 1 or simple <= 1e-15:
        return float(count)
    sums = np.bincount(places, apart)
    clustered = count / (count - 1) * float(sums @ sums) / n**2
    caution = (t_quantile(level, n - 1) / t_quantile(level, count - 1)) ** 2
    return n / max(1.0, clustered / simple) * caution


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, got {level}")


def _z(level: float) -> float:
    _check_level(level)
    return NormalDist().inv_cdf((1 + level) / 2)

"""Figures of a policy from plain arrays: means with intervals, win rates, diversity, agreement with labels.

Dimension letters: N values, one a prompt or a pair. A figure that nothing defines (no value, a constant) is ``None``,
never NaN.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of ``n`` values with its confidence interval; no interval (``None``) where one value gives none."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON; ``Interval(**interval.to_dict())`` is the same again."""
        return asdict(self)


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval | None:
    """Student's t interval of the mean of independent values [N]; ``None`` for no values.

    Raises:
        ValueError: A value is not finite, or ``level`` is not between 0 and 1.
    """
    array = _finite(values, "values")
    if array.size == 0:
        return None
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, None, None, 1)
    half = _t_quantile(level, array.size - 1) * float(array.std(ddof=1)) / math.sqrt(array.size)
    return Interval(mean, mean - half, mean + half, array.size)


def win_rate(scores_a: ArrayLike, scores_b: ArrayLike, level: float = 0.95) -> Interval | None:
    """Share of prompts on which a scores higher than b [N], ties counted half; ``None`` for no prompts.

    The unit is the prompt: its outcome is 1, 1/2 or 0. The interval is Wilson's (1927) score interval with the
    variance of that outcome: all mu with (m - mu)^2 <= c V(mu), where V(mu) = mu (1 - mu) - t / 4, c = z^2 / n and
    t is the share of ties. t is shrunk to n t / (n + z^2), so that the interval never has zero width: without ties
    it is Wilson's own, with nothing but ties it is 1/2 -+ c / (2 (1 + c)). It lies within [0, 1].

    Raises:
        ValueError: A score is not finite, or the two are not equally many.
    """
    a, b = _finite(scores_a, "scores_a"), _finite(scores_b, "scores_b")
    if a.shape != b.shape:
        raise ValueError(f"scores of the same prompts are compared, got {a.size} and {b.size}")
    n = a.size
    if n == 0:
        return None
    ties = float(np.mean(a == b))
    mean = float(np.mean(a > b)) + ties / 2
    c = _z(level) ** 2 / n
    shrunk = ties / (1 + c)
    root = math.sqrt(c * (4 * mean * (1 - mean) - shrunk + c * (1 - shrunk)))
    low, high = ((2 * mean + c + sign * root) / (2 * (1 + c)) for sign in (-1, 1))
    return Interval(mean, max(0.0, low), min(1.0, high), n)


def correlation(x: ArrayLike, y: ArrayLike) -> float | None:
    """Pearson's correlation of x and y [N]; ``None`` where it is undefined (fewer than two values, a constant).

    Raises:
        ValueError: A value is not finite, or the two are not equally many.
    """
    x, y = _finite(x, "x"), _finite(y, "y")
    if x.shape != y.shape:
        raise ValueError(f"x and y must be equally many, got {x.size} and {y.size}")
    # The deviations of a constant can round to something other than zero: compare the values themselves.
    if x.size < 2 or x.min() == x.max() or y.min() == y.max():
        return None
    dx, dy = x - x.mean(), y - y.mean()
    scale = float(np.linalg.norm(dx) * np.linalg.norm(dy))
    if scale == 0.0:
        return None
    return float(np.clip(dx @ dy / scale, -1.0, 1.0))


def margin_accuracy(margins: ArrayLike, p: ArrayLike | None = None) -> float | None:
    """Share of margins [N] above zero, ties counted half; ``None`` for no margins.

    With soft labels ``p`` [N], the probability that the chosen response is the better one, a pair counts p where its
    margin is above zero and 1 - p where it is below: the expected share of pairs ordered as a labeller would.

    Raises:
        ValueError: A value is not finite, or ``p`` is not as many as ``margins``.
    """
    sign = np.sign(_finite(margins, "margins"))
    certainty = np.ones_like(sign) if p is None else 2 * _finite(p, "p") - 1
    if sign.shape != certainty.shape:
        raise ValueError(f"p must have one value a margin, got {certainty.size} for {sign.size}")
    return float(np.mean(0.5 + 0.5 * certainty * sign)) if sign.size else None


def distinct_n(sequences: Sequence[Sequence[int]], n: int) -> float | None:
    """Different n-grams over all n-grams of all token sequences together (1510.03055); ``None`` for no n-gram."""
    grams = [gram for sequence in sequences for gram in _ngrams(sequence, n)]
    return len(set(grams)) / len(grams) if grams else None


def repetition(sequences: Sequence[Sequence[int]], n: int = 4) -> float | None:
    """Share of token sequences in which some n-gram occurs twice; ``None`` for no sequences."""
    repeated = [len(set(grams)) < len(grams) for grams in (_ngrams(sequence, n) for sequence in sequences)]
    return sum(repeated) / len(repeated) if repeated else None


def similarity(a: Sequence[int], b: Sequence[int], n: int = 2) -> float | None:
    """Share of n-grams that two token sequences have in common, 2 |A & B| / (|A| + |B|), each as often as it occurs
    (Dice 1945): 1 for equal sequences, 0 for none in common; ``None`` where neither has an n-gram."""
    grams_a, grams_b = Counter(_ngrams(a, n)), Counter(_ngrams(b, n))
    total = grams_a.total() + grams_b.total()
    return 2 * (grams_a & grams_b).total() / total if total else None


def _ngrams(sequence: Sequence[int], n: int) -> list[tuple[int, ...]]:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return [tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]


def _finite(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name} must be finite, got {array[bad[0]]} at index {bad[0]}")
    return array


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, got {level}")


def _z(level: float) -> float:
    _check_level(level)
    return NormalDist().inv_cdf((1 + level) / 2)


@lru_cache(maxsize=256)
def _t_quantile(level: float, degrees: int) -> float:
    """The t with P(|T| <= t) = level: the closed form of Abramowitz and Stegun 26.7.3 and 26.7.4, bisected over its
    angle arctan(t / sqrt(degrees))."""
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

"""Bootstrap over clusters: intervals of any statistic of rows that are not independent, such as verdicts on answers to
the same prompt. Pure.

Dimension letters: N rows, G clusters, B bootstrap samples, S figures of a statistic.

Whole clusters are drawn with replacement, and the statistic is computed again on each sample. The intervals are BCa
(bias-corrected and accelerated; Efron 1987), at the levels of Student's t with G - 1 degrees and with the variance
scaled by G / (G - 1), which corrects the too narrow intervals of few clusters (Hesterberg 2015). For shares,
``seralign.intervals.share_interval`` covers better with few clusters, and has a width even if all outcomes are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from seralign.intervals import Interval, finite, t_quantile

# Cells of a matrix of weights [samples, N] that is in memory at once.
_CELLS = 2**22
# An interval of a figure of wins needs so many prompts, and so many of them won and lost (``is_enough``).
LEAST_PROMPTS, LEAST_WINS = 10, 2
# Clusters are put together in at most so many groups for the jackknife; the acceleration needs no more.
_JACKKNIFE = 400

Statistic = Callable[[np.ndarray], np.ndarray]
"""Weights [B, N] of the rows (how often each was drawn) to figures [B] or [B, S]; NaN where one is not defined."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A statistic of the rows, and of bootstrap samples of them.

    Args:
        estimate: Of the rows themselves [S].
        samples: Of each bootstrap sample [B, S].
        jackknife: With each group of clusters left out [at most 400, S].
        clusters: G.
        rows: N.
    """

    estimate: np.ndarray
    samples: np.ndarray
    jackknife: np.ndarray
    clusters: int
    rows: int

    def intervals(self, level: float = 0.95) -> list[Interval | None]:
        """The interval of each figure [S]; ``None`` for a figure that is not defined."""
        return [self._interval(place, level) for place in range(len(self.estimate))]

    def standard_error(self) -> np.ndarray:
        """Standard deviation over the bootstrap samples [S]."""
        return np.nanstd(self.samples, axis=0, ddof=1)

    def _interval(self, place: int, level: float) -> Interval | None:
        estimate = float(self.estimate[place])
        if not math.isfinite(estimate):
            return None
        samples, without = self.samples[:, place], self.jackknife[:, place]
        samples, without = np.sort(samples[np.isfinite(samples)]), without[np.isfinite(without)]
        if self.clusters < 2 or not samples.size:
            return Interval(estimate, None, None, self.rows)
        low, high = np.quantile(samples, _levels(estimate, samples, without, self.clusters, level))
        return Interval(estimate, float(low), float(high), self.rows)


def cluster_bootstrap(
    clusters: Sequence[str] | np.ndarray | int, statistic: Statistic, *, samples: int = 1000, seed: int = 0
) -> Bootstrap:
    """Compute a statistic on bootstrap samples of clusters.

    Args:
        clusters: Name of each row's cluster [N], or the number of rows if each is a cluster of its own.
        statistic: The statistic, as a function of the rows' weights. It is called with several samples at once.
        samples: B.
        seed: Seed of the samples.

    Raises:
        ValueError: There is no row.
    """
    places, count = _places(clusters)
    if not count:
        raise ValueError("a bootstrap needs at least one row")
    rng = np.random.default_rng([seed, 0x5E7A])
    together = max(1, _CELLS // max(len(places), count))
    drawn = []
    for start in range(0, samples, together):
        size = min(together, samples - start)
        cells = rng.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(cells.ravel(), minlength=size * count).reshape(size, count)
        drawn.append(_figures(statistic, times[:, places].astype(np.float64)))
    groups = min(count, _JACKKNIFE)
    group = (rng.permutation(count) % groups)[places]
    left = [
        _figures(statistic, (group != np.arange(start, min(start + together, groups))[:, None]).astype(np.float64))
        for start in range(0, groups, together)
        if count > 1
    ]
    estimate = _figures(statistic, np.ones((1, len(places))))[0]
    none = np.empty((0, len(estimate)))
    return Bootstrap(
        estimate, np.concatenate([none, *drawn]), np.concatenate([none, *left]), clusters=count, rows=len(places)
    )


def cluster_interval(
    values: ArrayLike,
    clusters: Sequence[str] | np.ndarray | None = None,
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    *,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """A statistic of values with its bootstrap interval over clusters; ``None`` without values, or if it is undefined.

    Args:
        values: [N].
        clusters: Name of each value's cluster [N], such as its prompt. By default each value is a cluster.
        statistic: Called with the values [N] and weights [B, N], returns figures [B]. By default the weighted mean.
        level: Confidence level.
        samples: Number of bootstrap samples.
        seed: Seed of the samples.

    Raises:
        ValueError: A value is not finite, or the lengths differ.
    """
    array = finite(values, "values")
    if clusters is not None and len(clusters) != array.size:
        raise ValueError(f"clusters must have one name for each value, got {len(clusters)} for {array.size}")
    if not array.size:
        return None
    of = weighted_mean if statistic is None else statistic
    found = cluster_bootstrap(
        array.size if clusters is None else clusters, lambda weights: of(array, weights), samples=samples, seed=seed
    )
    return found.intervals(level)[0]


def is_enough(better: np.ndarray, prompts: Sequence[str] | np.ndarray) -> bool:
    """Whether outcomes are enough for a bootstrap interval of a figure that is computed from them.

    Samples hold only outcomes that were observed. If a policy lost on all of 4 prompts, it loses in every sample, and
    the interval has hardly any width, whatever the policy is. So at least ``LEAST_PROMPTS`` prompts are needed, of
    which at least ``LEAST_WINS`` are won and as many lost; a prompt with several outcomes counts by their mean, and a
    tie as half of each. Outcomes that are equal on all prompts, such as ties alone, are not enough either.

    Args:
        better: Outcomes in [0, 1] [N].
        prompts: Name of each outcome's prompt [N].
    """
    places, count = _places(prompts)
    if count < LEAST_PROMPTS:
        return False
    means = np.bincount(places, better) / np.bincount(places)
    return bool(LEAST_WINS <= means.sum() <= count - LEAST_WINS and np.ptp(means) > 1e-9)


def without_ends(interval: Interval | None) -> Interval | None:
    """The figure alone, without an interval."""
    return None if interval is None else Interval(interval.mean, None, None, interval.n)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means [B] of values [N] under weights [B, N]; NaN where all weights are zero."""
    total = weights.sum(1)
    return np.divide(weights @ values, total, out=np.full(len(weights), np.nan), where=total > 0)


def _places(clusters: Sequence[str] | np.ndarray | int) -> tuple[np.ndarray, int]:
    """The number of each row's cluster, in order of appearance, and how many clusters there are."""
    if isinstance(clusters, int):
        return np.arange(clusters), clusters
    known: dict[object, int] = {}
    places = np.array([known.setdefault(name, len(known)) for name in clusters], dtype=np.int64)
    return places, len(known)


def _figures(statistic: Statistic, weights: np.ndarray) -> np.ndarray:
    found = np.asarray(statistic(weights), dtype=np.float64)
    return found[:, None] if found.ndim == 1 else found


def _levels(
    estimate: float, samples: np.ndarray, jackknife: np.ndarray, clusters: int, level: float
) -> tuple[float, float]:
    """The quantiles of the samples that are the ends of the BCa interval."""
    normal = NormalDist()
    wide = math.sqrt(clusters / (clusters - 1)) * t_quantile(level, clusters - 1)
    # An estimate is rarely equal to a sample except by rounding; a tie counts half.
    near = 1e-12 * max(1.0, abs(estimate))
    below = (np.mean(samples < estimate - near) + np.mean(samples <= estimate + near)) / 2
    bias = normal.inv_cdf(float(np.clip(below, 1 / (samples.size + 1), samples.size / (samples.size + 1))))
    apart = jackknife.mean() - jackknife if jackknife.size else np.zeros(1)
    scale = float(apart @ apart) ** 1.5
    acceleration = float(np.sum(apart**3)) / (6 * scale) if scale > 1e-30 else 0.0

    def quantile(z: float) -> float:
        below_one = 1 - acceleration * (bias + z)
        # With very few clusters the correction can have a pole; the interval then reaches to the last sample.
        return normal.cdf(bias + (bias + z) / below_one) if below_one > 0 else float(z > 0)

    return quantile(-wide), quantile(wide)

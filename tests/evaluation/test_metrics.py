"""Figures against hand-worked values, scipy, and coverage by simulation."""

import math
from functools import lru_cache

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from seralign.evaluation.metrics import (
    Interval,
    correlation,
    distinct_n,
    margin_accuracy,
    mean_interval,
    repetition,
    similarity,
    win_rate,
)

VALUES = st.lists(st.integers(-50, 50).map(float), min_size=2, max_size=40)


def test_mean_interval_by_hand() -> None:
    """Values 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(.975, 2) = 4.302653, so 2 -+ 2.484138."""
    interval = mean_interval([1, 2, 3])
    assert interval is not None
    assert (interval.mean, interval.n) == (2.0, 3)
    assert interval.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert interval.high == pytest.approx(2 + 2.484138, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 11, 30, 201, 1000, 1001])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_mean_interval_is_scipys(n: int, level: float) -> None:
    values = np.random.default_rng(n).normal(3, 2, n)
    interval = mean_interval(values, level)
    expected = scipy.stats.t.interval(level, n - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-9)


def test_mean_interval_at_the_edges() -> None:
    assert mean_interval([]) is None
    assert mean_interval([2.5]) == Interval(2.5, None, None, 1)
    assert mean_interval([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0, 3)
    with pytest.raises(ValueError, match="values must be finite, got nan at index 1"):
        mean_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="one dimension"):
        mean_interval([[1.0]])
    with pytest.raises(ValueError, match="level"):
        mean_interval([1.0, 2.0], level=95)


def test_win_rate_by_hand() -> None:
    """Two wins, one tie, one loss: (2 + 1/2) / 4."""
    rate = win_rate([3, 2, 1, 0], [1, 1, 1, 1])
    assert rate is not None
    assert (rate.mean, rate.n) == (0.625, 4)


@pytest.mark.parametrize(("wins", "n"), [(0, 10), (10, 10), (3, 10), (141, 200), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_without_ties_the_interval_is_wilsons(wins: int, n: int, level: float) -> None:
    rate = win_rate(np.arange(n) < wins, np.full(n, 0.5), level)
    expected = scipy.stats.binomtest(wins, n).proportion_ci(level, method="wilson")
    assert rate is not None
    assert (rate.low, rate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_but_ties_still_has_a_width() -> None:
    """n = 4, c = 1.959964^2 / 4 = .960365: 1/2 -+ .960365 / (2 x 1.960365) = 1/2 -+ .244945."""
    rate = win_rate([1.0] * 4, [1.0] * 4)
    assert rate is not None
    assert (rate.mean, rate.low, rate.high) == pytest.approx((0.5, 0.255055, 0.744945), abs=1e-6)


@lru_cache
def every_outcome(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All counts of wins, ties and losses in n comparisons [K, 3], and the interval of each [K, 2]."""
    counts = np.array([(w, t, n - w - t) for w in range(n + 1) for t in range(n + 1 - w)])
    rates = [win_rate(np.repeat([1.0, 0.0, -1.0], count), np.zeros(n)) for count in counts]
    return counts, np.array([(rate.low, rate.high) for rate in rates if rate is not None])


@pytest.mark.parametrize(
    ("win", "tie"), [(0.5, 0.0), (0.35, 0.3), (0.05, 0.9), (0.02, 0.02), (0.95, 0.04), (0.7, 0.0), (0.2, 0.6), (0, 0.1)]
)
@pytest.mark.parametrize("n", [30, 100])
def test_win_rate_covers_the_truth(win: float, tie: float, n: int) -> None:
    """The exact probability, summed over all outcomes, that the 95% interval holds the true rate. Discreteness moves
    it about .95 by some hundredths, as it does Wilson's own; many ties make it cautious."""
    counts, intervals = every_outcome(n)
    truth = win + tie / 2
    holds = (intervals[:, 0] <= truth) & (truth <= intervals[:, 1])
    coverage = scipy.stats.multinomial.pmf(counts, n, [win, tie, 1 - win - tie])[holds].sum()
    assert 0.92 <= coverage <= 1.0
    if 0.3 < truth < 0.7 and tie < 0.5:
        assert coverage == pytest.approx(0.95, abs=0.022)


@given(VALUES, st.randoms(use_true_random=False))
def test_win_rate_is_antisymmetric_and_within_bounds(a: list[float], random) -> None:
    b = [random.choice([x - 1, x, x + 1]) for x in a]
    mine, theirs = win_rate(a, b), win_rate(b, a)
    assert mine is not None
    assert theirs is not None
    assert mine.low is not None
    assert mine.high is not None
    assert mine.mean + theirs.mean == pytest.approx(1)
    assert mine.low + (theirs.high or 0.0) == pytest.approx(1)
    assert 0 <= mine.low <= mine.mean + 1e-12
    assert mine.mean - 1e-12 <= mine.high <= 1


def test_win_rate_refuses_what_it_cannot_compare() -> None:
    assert win_rate([], []) is None
    with pytest.raises(ValueError, match="got 2 and 1"):
        win_rate([1, 2], [1])
    with pytest.raises(ValueError, match="scores_b must be finite, got inf at index 0"):
        win_rate([1], [math.inf])


@given(VALUES, st.integers(0, 1000))
def test_correlation_is_scipys(x: list[float], seed: int) -> None:
    y = np.random.default_rng(seed).normal(size=len(x))
    if len(set(x)) == 1:
        assert correlation(x, y) is None
    else:
        assert correlation(x, y) == pytest.approx(scipy.stats.pearsonr(x, y)[0], abs=1e-12)


def test_correlation_by_hand() -> None:
    """x = 0, 1, 2 and y = 0, 2, 1: deviations -1, 0, 1 and -1, 1, 0; 1 / (sqrt 2 sqrt 2) = 1/2."""
    assert correlation([0, 1, 2], [0, 2, 1]) == pytest.approx(0.5)
    assert correlation([1, 2], [5, 3]) == pytest.approx(-1)
    assert correlation([0.1] * 7, range(7)) is None
    assert correlation(range(7), [0.1] * 7) is None
    assert correlation([1], [2]) is None
    assert correlation([], []) is None
    with pytest.raises(ValueError, match="got 2 and 1"):
        correlation([1, 2], [1])


def test_margin_accuracy_by_hand() -> None:
    assert margin_accuracy([2.0, 1e-9, 0.0, -1.0]) == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert margin_accuracy([]) is None
    # p where the margin agrees, 1 - p where it does not, one half at zero
    assert margin_accuracy([1.0, -1.0, 0.0], p=[0.9, 0.8, 1.0]) == pytest.approx((0.9 + 0.2 + 0.5) / 3)
    with pytest.raises(ValueError, match="got 1 for 2"):
        margin_accuracy([1.0, 2.0], p=[1.0])
    with pytest.raises(ValueError, match="margins must be finite"):
        margin_accuracy([math.nan])


@given(VALUES)
def test_hard_labels_are_soft_labels_of_one(margins: list[float]) -> None:
    assert margin_accuracy(margins) == margin_accuracy(margins, p=[1.0] * len(margins))
    assert margin_accuracy(margins, p=[0.5] * len(margins)) == pytest.approx(0.5)


def test_distinct_by_hand() -> None:
    """1 2 1 2 has bigrams 12, 21, 12; 2 1 has 21: two different of four. Unigrams: 1, 2, 7 of seven."""
    sequences = [[1, 2, 1, 2], [2, 1], [7], []]
    assert distinct_n(sequences, 2) == 2 / 4
    assert distinct_n(sequences, 1) == 3 / 7
    assert distinct_n([[1], [2]], 2) is None
    assert distinct_n([], 2) is None
    with pytest.raises(ValueError, match="n must be at least 1"):
        distinct_n([[1]], 0)


def test_repetition_by_hand() -> None:
    """1 2 3 4 1 2 3 4 says 1 2 3 4 twice, five equal tokens say 1 1 1 1 twice, the others nothing."""
    sequences = [[1, 2, 3, 4, 1, 2, 3, 4], [1, 1, 1, 1, 1], [1, 2, 3, 4, 1, 2, 3], []]
    assert repetition(sequences) == 2 / 4
    assert repetition(sequences, n=3) == 3 / 4
    assert repetition([]) is None


def test_similarity_by_hand() -> None:
    """12 23 34 and 12 24 42 have one bigram in common, 12 23 34 and 23 31 12 two, of six together."""
    assert similarity([1, 2, 3, 4], [1, 2, 4, 2]) == pytest.approx(2 / 6)
    assert similarity([1, 2, 3, 4], [2, 3, 1, 2]) == pytest.approx(4 / 6)
    # 11 twice and three times: twice in common.
    assert similarity([1, 1, 1], [1, 1, 1, 1]) == pytest.approx(4 / 5)
    assert similarity([1, 2, 3], [1, 2, 3]) == 1.0
    assert similarity([1, 2], [2, 1]) == 0.0
    assert similarity([1, 2], []) == 0.0
    assert similarity([1], []) is None
    assert similarity([1, 2], [3, 1], n=1) == pytest.approx(2 / 4)


@given(*[st.lists(st.integers(0, 3), max_size=12)] * 2)
def test_similarity_is_symmetric_and_a_share(a: list[int], b: list[int]) -> None:
    value = similarity(a, b)
    assert value == similarity(b, a)
    assert value is None or 0.0 <= value <= 1.0
    assert similarity(a, a) in (None, 1.0)

"""Intervals against hand-worked values, scipy, and coverage by exact probability and simulation."""

import math
from functools import lru_cache

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from seralign.intervals import Interval, mean_interval, outcomes, share_interval


def win_rate(mine: object, theirs: object, level: float = 0.95) -> Interval | None:
    """By scores of the same prompts."""
    return share_interval(outcomes(mine, theirs), level=level)  # pyright: ignore


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


def test_a_share_by_hand() -> None:
    """7 of 10 and c = .3841459: (1.4 + c -+ sqrt(c (.84 + c))) / (2 (1 + c))."""
    found = share_interval([1.0] * 7 + [0.0] * 3)
    assert found is not None
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((0.7, 0.396778, 0.892209, 10), abs=1e-6)


def test_pairs_of_a_prompt_count_once_where_they_agree() -> None:
    """Four prompts of two pairs, right, wrong, right, wrong. Variance of the mean by pairs 2 / 56, by prompts
    4 / 3 x 4 / 64: 7 / 3 times as large. n = 8 / (7 / 3) x (2.364624 / 3.182446)^2 = 1.892842, c = 2.029466, and the
    interval 1/2 -+ sqrt(c (1 + c)) / (2 (1 + c)) = 1/2 -+ .409242."""
    values = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    found = share_interval(values, list("aabbccdd"))
    assert found is not None
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((0.5, 0.090758, 0.909242, 8), abs=1e-5)
    # Where all are right, eight pairs of four prompts are four: Wilson's 4 / 4, 1 / (1 + c) to 1.
    sure = share_interval([1.0] * 8, list("aabbccdd"))
    assert sure is not None
    assert (sure.low, sure.high) == pytest.approx((4 / (4 + 3.841459), 1.0), abs=1e-6)
    # A prompt a pair: no groups at all.
    assert share_interval(values, list("abcdefgh")) == share_interval(values)


def test_soft_outcomes_vary_less() -> None:
    """100 outcomes of .6 have the mean of 60 ones and 40 zeros, and a narrower interval, never of no width."""
    soft, hard = share_interval([0.6] * 100), share_interval([1.0] * 60 + [0.0] * 40)
    assert soft is not None
    assert hard is not None
    assert soft.mean == pytest.approx(hard.mean)
    widths = [(one.high or 0.0) - (one.low or 0.0) for one in (soft, hard)]
    assert 0 < widths[0] < 0.4 * widths[1]


def test_grouped_shares_cover_the_truth() -> None:
    """40 prompts of 5 pairs; a prompt's pairs are right with a chance of its own, .6 in the mean. Wilson's interval of
    200 pairs holds .6 far less often than it says."""
    rng = np.random.default_rng(0)
    prompts, names = 40, [str(at) for at in range(40) for _ in range(5)]
    holds = {"grouped": 0, "each alone": 0}
    for _ in range(400):
        outcomes = (rng.random((prompts, 5)) < rng.beta(0.9, 0.6, (prompts, 1))).reshape(-1).astype(float)
        for name, groups in (("grouped", names), ("each alone", None)):
            found = share_interval(outcomes, groups)
            assert found is not None
            holds[name] += (found.low or 0.0) <= 0.6 <= (found.high or 0.0)
    assert 0.92 <= holds["grouped"] / 400 <= 0.99
    assert holds["each alone"] / 400 < 0.85


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=30))
def test_a_share_lies_within_its_interval(rows: list[tuple[float, str]]) -> None:
    found = share_interval([outcome for outcome, _ in rows], [group for _, group in rows])
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert -1e-9 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= 1 + 1e-9


def test_a_share_refuses_what_is_none() -> None:
    assert share_interval([]) is None
    with pytest.raises(ValueError, match=r"within \[0, 1\]"):
        share_interval([0.5, 1.5])
    with pytest.raises(ValueError, match="got 1 for 2"):
        share_interval([0.5, 1.0], ["a"])

"""Best-of-n by hand, by brute force over subsets, and against the divergence itself."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.evaluation.best_of import Pairs, kl_bound, knockout, mean_win_rates, sizes, subset_means

rewards = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=7)


def test_sizes_double_up_to_all() -> None:
    assert sizes(16) == [1, 2, 4, 8, 16]
    assert sizes(12) == [1, 2, 4, 8, 12]
    assert sizes(2) == [1, 2]


def test_the_bound_by_hand() -> None:
    assert kl_bound(1) == 0.0
    assert kl_bound(2) == pytest.approx(math.log(2) - 0.5)
    # The 1,000 answers whose cost the warning kl names: six nats.
    assert kl_bound(1000) == pytest.approx(5.9088, abs=1e-4)
    with pytest.raises(ValueError, match="at least 1"):
        kl_bound(0)


@pytest.mark.parametrize("n", [2, 3, 16])
def test_the_bound_is_the_divergence_where_rewards_are_continuous(n: int) -> None:
    """The rank u of the best is distributed with density n u^(n - 1), that of one response with density 1."""
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    density = n * u ** (n - 1)
    assert float(np.mean(density * np.log(density))) == pytest.approx(kl_bound(n), abs=1e-5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(2, 8))
def test_the_bound_is_above_the_divergence_of_discrete_responses(weights: list[int], n: int) -> None:
    """Responses with different rewards in order: the best is response i with probability F_i^n - F_(i-1)^n."""
    policy = np.array(weights) / sum(weights)
    cumulative = np.concatenate([[0.0], np.cumsum(policy)])
    best = np.diff(cumulative**n)
    assert float(np.sum(best * np.log(best / policy))) <= kl_bound(n) + 1e-9


@given(st.lists(rewards, min_size=1, max_size=3).filter(lambda rows: len({len(row) for row in rows}) == 1))
def test_the_estimate_is_the_mean_over_all_subsets(table: list[list[float]]) -> None:
    counts = list(range(1, len(table[0]) + 1))
    found = subset_means(table, counts)
    for row, own in zip(table, found, strict=True):
        for k, value in zip(counts, own, strict=True):
            assert value == pytest.approx(np.mean([max(some) for some in combinations(row, k)]))


def test_the_estimate_by_hand_and_in_large() -> None:
    # Pairs of 1, 2, 4: their highest are 2, 4, 4.
    assert subset_means([[4.0, 1.0, 2.0]], [1, 2, 3])[0] == pytest.approx([7 / 3, 10 / 3, 4.0])
    large = subset_means([np.arange(1, 2001)], [1, 1000, 2000])[0]
    # The highest of k of 1, ..., N has the mean k (N + 1) / (k + 1).
    assert large == pytest.approx([1000.5, 1000 * 2001 / 1001, 2000.0])


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sizes must be from 1 to 2, got \[3\]"):
        subset_means([[1.0, 2.0]], [3])
    with pytest.raises(ValueError, match="finite"):
        subset_means([[1.0, math.nan]], [1])


class Longer:
    """A judge that prefers the longer response, counts what it is asked, and has no verdict on some texts."""

    def __init__(self, texts: list[list[str]], silent: str = "?") -> None:
        self.texts, self.asked, self.silent = texts, 0, silent

    def __call__(self, pairs: Pairs) -> list[float | None]:
        self.asked += len(pairs)
        found: list[float | None] = []
        for row, a, b in pairs:
            first, second = self.texts[row][a], self.texts[row][b]
            assert first != second, "equal texts are not judged"
            better = 0.5 + 0.5 * np.sign(len(first) - len(second))
            found.append(None if self.silent in (first, second) else float(better))
        return found


def test_mean_win_rates_by_hand() -> None:
    texts = [["a", "bb", "ccc", "dd"], ["a", "a", "bb", "?"]]
    judge = Longer(texts)
    found = mean_win_rates(texts, judge)
    assert found[0] == pytest.approx([0.0, 1.5 / 3, 1.0, 1.5 / 3])
    # The equal ones tie with each other, both lose against bb, and ? has no verdict.
    assert found[1][:3] == pytest.approx([0.25, 0.25, 1.0])
    assert np.isnan(found[1][3])
    assert judge.asked == 6 + 5


@given(st.lists(st.integers(1, 30), min_size=2, max_size=9, unique=True))
def test_a_knockout_finds_the_best_by_a_consistent_judge(lengths: list[int]) -> None:
    texts = [["x" * length for length in lengths], ["y" * length for length in reversed(lengths)]]
    judge = Longer(texts)
    winners = knockout(texts, judge)
    assert [len(row[at]) for row, at in zip(texts, winners, strict=True)] == [max(lengths)] * 2
    assert judge.asked == 2 * (len(lengths) - 1)


def test_a_knockout_keeps_the_first_where_nothing_is_decided() -> None:
    assert knockout([["a", "b", "c"]], Longer([["a", "b", "c"]])).tolist() == [0]
    assert knockout([["?", "bb"], ["a", "a"]], Longer([["?", "bb"], ["a", "a"]])).tolist() == [0, 0]

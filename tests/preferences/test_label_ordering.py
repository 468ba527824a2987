"""Rankings and scores of responses: by hand, and properties of any scores and comparisons."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.data.ranked import ALL_TIED, CONTRADICTION, NOTHING_TO_COMPARE
from seralign.preferences import ordering, pairing
from seralign.preferences.grading import graded_scores, win_shares
from seralign.preferences.opinions import SUREST, Graded, Scored
from seralign.preferences.ordering import Ranked, ranking_of, scores_of
from seralign.records import dense_ranks


def scored(*scores: float | None, responses: str = "abcdef") -> tuple[Ranked | None, dict[str, int]]:
    dropped: Counter[str] = Counter()
    return ranking_of(responses, graded_scores(Scored(scores), None), dropped), dict(dropped)


def comparisons(size: int, p: dict[tuple[int, int], float]) -> Graded:
    return Graded(p, win_shares(size, p), "probability", cyclic=True)


def compared(size: int, p: dict[tuple[int, int], float]) -> tuple[Ranked | None, dict[str, int]]:
    dropped: Counter[str] = Counter()
    return ranking_of("abcdef", comparisons(size, p), dropped), dict(dropped)


def test_scores_are_ranked_and_equal_ones_are_a_tie() -> None:
    assert scored(1.0, 3.0, 1.0, 0.0) == (Ranked((1, 0, 2, 3), (1, 2, 2, 3)), {})
    assert scored(1.0, None, 3.0) == (Ranked((2, 0), (1, 2)), {})
    assert scored(1.0, None) == (None, {pairing.NO_PAIR: 1})
    assert scored(1.0, 1.0, 1.0) == (None, {ALL_TIED: 1})


def test_a_response_is_ranked_once() -> None:
    assert scored(2.0, 1.0, 2.0, responses="aba") == (Ranked((0, 1), (1, 2)), {pairing.IDENTICAL: 1})
    assert scored(2.0, 1.0, 3.0, responses="aba") == (None, {CONTRADICTION: 1})
    assert scored(2.0, 2.0, responses="aa") == (None, {pairing.IDENTICAL: 1, NOTHING_TO_COMPARE: 1})


@pytest.mark.parametrize(
    ("p", "ranked", "dropped"),
    [
        # One is better than each of the others, which were not compared: the best of three, and a tie.
        ({(0, 2): 0.0, (1, 2): 0.1}, Ranked((2, 0, 1), (1, 2, 2)), {}),
        # A chain is an order, though its ends were not compared.
        ({(0, 1): 0.9, (1, 2): 0.6}, Ranked((0, 1, 2), (1, 2, 3)), {}),
        ({(0, 1): 0.5, (0, 2): 0.9, (1, 2): 0.9}, Ranked((0, 1, 2), (1, 1, 2)), {}),
        # Three in a circle, all of them better than the fourth.
        (
            {(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.2, (0, 3): 0.8, (1, 3): 0.8, (2, 3): 0.8},
            Ranked((0, 1, 2, 3), (1, 1, 1, 2)),
            {pairing.CYCLE: 3},
        ),
        # One of the circle was compared with the fourth. The others follow: nothing orders them among themselves.
        ({(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.2, (0, 3): 0.8}, Ranked((0, 1, 2, 3), (1, 1, 1, 2)), {pairing.CYCLE: 3}),
        ({(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.2}, None, {pairing.CYCLE: 3, ALL_TIED: 1}),
        # Equal, but one is better and the other is worse than the third.
        ({(0, 1): 0.5, (0, 2): 0.9, (1, 2): 0.2}, None, {pairing.CYCLE: 2, ALL_TIED: 1}),
        ({(0, 1): 0.9, (2, 3): 0.9}, None, {ordering.OPEN: 1}),
        ({(0, 1): 0.9, (1, 2): 0.9, (0, 3): 0.9}, None, {ordering.OPEN: 1}),
        ({}, None, {pairing.NO_PAIR: 1}),
    ],
)
def test_comparisons_are_ranked_where_they_say_an_order(
    p: dict[tuple[int, int], float], ranked: Ranked | None, dropped: dict[str, int]
) -> None:
    size = max((index for pair in p for index in pair), default=1) + 1
    assert compared(size, p) == (ranked, dropped)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=6))
def test_all_comparisons_of_scores_give_the_ranking_of_the_scores(scores: list[int]) -> None:
    p = {(i, j): 0.5 + 0.1 * np.sign(scores[i] - scores[j]) for i, j in combinations(range(len(scores)), 2)}
    by_scores, _ = scored(*map(float, scores))
    assert compared(len(scores), p)[0] == by_scores
    if by_scores is not None:
        assert dense_ranks(by_scores.ranks) == by_scores.ranks
        assert [scores[index] for index in by_scores.order] == sorted(scores, reverse=True)


@given(st.dictionaries(st.sampled_from(list(combinations(range(5), 2))), st.sampled_from([0.2, 0.5, 0.9])))
def test_no_ranking_contradicts_a_comparison_that_is_in_no_circle(p: dict[tuple[int, int], float]) -> None:
    found, dropped = compared(5, p)
    if found is None:
        return
    rank = dict(zip(found.order, found.ranks, strict=True))
    circled = 0
    for (one, other), value in p.items():
        if value == 0.5:
            assert rank[one] == rank[other]
        elif rank[one] == rank[other]:
            circled += 1
        else:
            assert (value > 0.5) == (rank[one] < rank[other])
    assert dropped.get(pairing.CYCLE, 0) == circled


def test_scores_are_divided_by_their_temperature() -> None:
    graded = graded_scores(Scored((3.0, None, 1.0)), 2.0)
    assert scores_of(graded, 2.0, Counter()) == {0: 1.5, 2: 0.5}
    assert graded.p[0, 2] == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert scores_of(graded, None, Counter()) == {0: 3.0, 2: 1.0}
    dropped: Counter[str] = Counter()
    assert scores_of(graded_scores(Scored((None, None)), None), None, dropped) == {}
    assert dropped == {ordering.NO_VALUE: 1}


def test_scores_of_comparisons_by_hand() -> None:
    assert scores_of(comparisons(2, {(0, 1): 0.8}), None, Counter()) == pytest.approx({0: 0.693147, 1: -0.693147})
    assert scores_of(comparisons(2, {(0, 1): 0.0}), None, Counter()) == pytest.approx({0: -SUREST / 2, 1: SUREST / 2})
    one = 1 / (1 + math.exp(-1.0))
    circle = comparisons(3, {(0, 1): one, (1, 2): one, (0, 2): 1 - one})
    assert scores_of(circle, None, Counter()) == pytest.approx({0: 0.0, 1: 0.0, 2: 0.0}, abs=1e-12)
    dropped: Counter[str] = Counter()
    assert scores_of(comparisons(4, {(0, 1): 0.9, (2, 3): 0.9}), None, dropped) == {}
    assert dropped == {ordering.UNCONNECTED: 1}


@given(st.lists(st.floats(-1.5, 1.5), min_size=2, max_size=5))
def test_comparisons_that_come_from_scores_give_them_back(scores: list[float]) -> None:
    """Up to their mean, also if only neighbours are compared."""
    for pairs in (combinations(range(len(scores)), 2), zip(range(len(scores)), range(1, len(scores)), strict=False)):
        p = {(i, j): 1 / (1 + math.exp(scores[j] - scores[i])) for i, j in pairs}
        found = scores_of(comparisons(len(scores), p), None, Counter())
        mean = sum(scores) / len(scores)
        assert found == pytest.approx({at: score - mean for at, score in enumerate(scores)}, abs=1e-9)

"""Which pairs are made: by hand, and properties of any scores."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.preferences import pairing
from seralign.preferences.config import PairsConfig
from seralign.preferences.grading import graded_scores, win_shares
from seralign.preferences.opinions import Graded, Scored
from seralign.preferences.pairing import Chosen, pairs_of


def made(scores: tuple[float | None, ...], **settings: Any) -> tuple[list[tuple[int, int]], dict[str, int]]:
    dropped: Counter[str] = Counter()
    responses = [f"answer {number}" for number in range(len(scores))]
    found = pairs_of(responses, graded_scores(Scored(scores), None), PairsConfig(**settings), dropped)
    return [(pair.chosen, pair.rejected) for pair in found], dict(dropped)


def test_the_rules_by_hand() -> None:
    scores = (3.0, 1.0, 1.0, 0.0)
    assert made(scores) == ([(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)], {pairing.TIE: 1})
    assert made(scores, rule="adjacent") == ([(0, 1), (0, 2), (1, 3), (2, 3)], {})
    assert made(scores, rule="best_worst") == ([(0, 3)], {})
    assert made(scores, min_margin=2.0) == ([(0, 1), (0, 2), (0, 3)], {pairing.TIE: 1, pairing.SMALL: 2})


def test_ties_and_missing_values_make_no_pair() -> None:
    for rule in ("all", "best_worst"):
        assert made((1.0, 1.0, None), rule=rule) == ([], {pairing.TIE: 1})
    assert made((1.0, None)) == ([], {pairing.NO_PAIR: 1})


def test_equal_responses_make_no_pair() -> None:
    dropped: Counter[str] = Counter()
    assert pairs_of(["same", "same"], graded_scores(Scored((1.0, 0.0)), None), PairsConfig(), dropped) == []
    assert dropped == {pairing.IDENTICAL: 1}


def test_a_soft_label_is_that_of_the_chosen_response() -> None:
    p = {(0, 1): 0.2}
    graded = Graded(p, win_shares(2, p), "probability")
    assert pairs_of("ab", graded, PairsConfig(), Counter()) == [Chosen(1, 0, 0.8)]
    assert pairs_of("ab", graded, PairsConfig(hard=True), Counter()) == [Chosen(1, 0, 1.0)]
    # The margin is |2p - 1|.
    assert pairs_of("ab", graded, PairsConfig(min_margin=0.61), Counter()) == []
    assert pairs_of("ab", graded, PairsConfig(min_margin=0.59), Counter()) == [Chosen(1, 0, 0.8)]


def test_preferences_in_a_circle_are_dropped_and_others_stay() -> None:
    p = {(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.2, (0, 3): 0.8}
    graded = Graded(p, win_shares(4, p), "probability", cyclic=True)
    dropped: Counter[str] = Counter()
    assert pairs_of("abcd", graded, PairsConfig(), dropped) == [Chosen(0, 3, 0.8)]
    assert dropped == {pairing.CYCLE: 3}


def test_best_and_worst_that_were_never_compared() -> None:
    p = {(0, 1): 0.9, (1, 2): 0.9}
    graded = Graded(p, win_shares(3, p), "probability", cyclic=True)
    dropped: Counter[str] = Counter()
    assert pairs_of("abc", graded, PairsConfig(rule="best_worst"), dropped) == []
    assert dropped == {pairing.UNKNOWN: 1}


@given(st.lists(st.sampled_from([None, -1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=7))
def test_any_scores(scores: list[float | None]) -> None:
    pairs, dropped = made(tuple(scores))
    known = [score for score in scores if score is not None]
    for chosen, rejected in pairs:
        better, worse = scores[chosen], scores[rejected]
        assert better is not None
        assert worse is not None
        assert better > worse
    total = len(known) * (len(known) - 1) // 2
    assert len(pairs) + dropped.get(pairing.TIE, 0) == total
    best_worst, _ = made(tuple(scores), rule="best_worst")
    assert len(best_worst) == (len(set(known)) > 1)
    if best_worst:
        assert (scores[best_worst[0][0]], scores[best_worst[0][1]]) == (max(known), min(known))
    adjacent, _ = made(tuple(scores), rule="adjacent")
    assert set(adjacent) <= set(pairs)


@pytest.mark.parametrize("rule", ["all", "adjacent", "best_worst"])
def test_the_pairs_of_a_ranking_do_not_depend_on_the_order_of_responses(rule: str) -> None:
    scores = (0.0, 3.0, 1.0, 2.0)
    names = {pair: (scores[pair[0]], scores[pair[1]]) for pair in made(scores, rule=rule)[0]}
    turned, _ = made(scores[::-1], rule=rule)
    assert sorted(names.values()) == sorted((scores[::-1][a], scores[::-1][b]) for a, b in turned)

"""Conversions between forms of preference, by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.errors import DataError
from seralign.preferences.convert import (
    labels_to_pairs,
    pair_to_labels,
    pair_to_ranking,
    ranking_to_pairs,
    scores_to_labels,
    scores_to_pairs,
    scores_to_ranking,
)
from seralign.records import Demonstration, Example, Label, Pair, Preference, Prompt, Ranking, Response, Scores


def example(texts: str, preference: Preference, name: str = "x", prompt: str = "q", weight: float = 1.0) -> Example:
    """One response for each letter."""
    responses = tuple(Response(text, (ord(text),)) for text in texts)
    return Example(name, Prompt(prompt, "Q", (1,)), responses, preference, weight, carried={"annotator": name})


def sides(pairs: Iterable[Example]) -> list[str]:
    return ["".join(response.text for response in pair.responses) for pair in pairs]


def test_a_ranking_becomes_pairs_of_different_ranks() -> None:
    ranked = example("abcd", Ranking((2, 1, 2, 3)), weight=0.5)
    pairs = ranking_to_pairs(ranked)
    assert sides(pairs) == ["ba", "ad", "bc", "bd", "cd"]
    assert {(pair.preference, pair.weight, pair.prompt) for pair in pairs} == {(Pair(1.0), 0.5, ranked.prompt)}
    assert [pair.example_id for pair in pairs] == ["x/1-0", "x/0-3", "x/1-2", "x/1-3", "x/2-3"]
    assert pairs[0].carried == {"annotator": "x"}
    assert sides(ranking_to_pairs(ranked, "adjacent")) == ["ba", "ad", "bc", "cd"]
    assert sides(ranking_to_pairs(ranked, "best_worst")) == ["bd"]
    assert ranking_to_pairs(example("ab", Ranking((1, 1)))) == ranking_to_pairs(
        example("ab", Ranking((1, 1))), "best_worst"
    ) == []  # fmt: skip
    # Ranks need not be 1, 2, 3: the next one is the neighbour.
    assert sides(ranking_to_pairs(example("ab", Ranking((9, 4))), "adjacent")) == ["ba"]


def test_scores_become_ranks() -> None:
    assert scores_to_ranking(example("abcd", Scores((0.5, 2.0, 0.5, -1.0)))).preference == Ranking((2, 1, 2, 3))


def test_scores_become_pairs_with_the_margin_s_probability() -> None:
    scored = example("abc", Scores((3.0, 1.0, 1.0)))
    pairs = scores_to_pairs(scored)
    assert (sides(pairs), [pair.preference for pair in pairs]) == (["ab", "ac"], [Pair(1.0)] * 2)
    for pair in scores_to_pairs(scored, scale=0.5):
        assert pair.preference == Pair(pytest.approx(0.7310585786300049, abs=1e-12))
    assert scores_to_pairs(scored, least=2.1) == []
    assert sides(scores_to_pairs(scored, least=2.0)) == ["ab", "ac"]
    assert sides(scores_to_pairs(example("ab", Scores((-1.0, 4.0))))) == ["ba"]
    with pytest.raises(ValueError, match=r"^scale must be above 0, got 0$"):
        scores_to_pairs(scored, scale=0)
    with pytest.raises(ValueError, match=r"^least must be at least 0, got -1$"):
        scores_to_pairs(scored, least=-1)


def test_scores_and_pairs_become_labels_of_single_responses() -> None:
    (good, bad) = scores_to_labels(example("ab", Scores((3.0, 2.9)), weight=2.0), 3.0)
    assert (good.preference, bad.preference) == (Label(True), Label(False))
    assert [(each.example_id, sides([each]), each.weight) for each in (good, bad)] == [
        ("x/0", ["a"], 2.0), ("x/1", ["b"], 2.0),
    ]  # fmt: skip
    for p, labels in ((0.9, [True, False]), (0.2, [False, True]), (0.5, [])):
        found = pair_to_labels(example("ab", Pair(p)))
        assert [each.preference for each in found] == [Label(desirable) for desirable in labels]


def test_labels_of_one_prompt_become_pairs() -> None:
    labelled = [
        example("a", Label(True), "1", "p", 2.0),
        example("d", Label(True), "2", "other"),
        example("b", Label(False), "3", "p", 0.5),
        example("c", Label(False), "4", "p"),
    ]
    pairs = list(labels_to_pairs(labelled))
    assert sides(pairs) == ["ab", "ac"]
    assert [(pair.example_id, pair.weight, pair.preference) for pair in pairs] == [
        ("1/3", 1.0, Pair(1.0)), ("1/4", 2.0, Pair(1.0))
    ]  # fmt: skip


@pytest.mark.parametrize(("p", "ranks"), [(1.0, (1, 2)), (0.6, (1, 2)), (0.5, (1, 1)), (0.2, (2, 1))])
def test_a_pair_becomes_a_ranking(p: float, ranks: tuple[int, int]) -> None:
    assert pair_to_ranking(example("ab", Pair(p))).preference == Ranking(ranks)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=6))
def test_pairs_of_scores_are_those_of_their_ranking(scores: list[int]) -> None:
    scored = example("abcdef"[: len(scores)], Scores(tuple(map(float, scores))))
    assert scores_to_pairs(scored) == ranking_to_pairs(scores_to_ranking(scored))


@pytest.mark.parametrize(
    ("convert", "wanted"),
    [
        (ranking_to_pairs, "ranking"),
        (scores_to_ranking, "scores"),
        (scores_to_pairs, "scores"),
        (lambda given: list(labels_to_pairs([given])), "label"),
        (pair_to_ranking, "pair"),
    ],
)
def test_another_form_is_refused(convert: Callable[[Example], Any], wanted: str) -> None:
    with pytest.raises(DataError, match=f"^example x has the form demonstration, not {wanted}$"):
        convert(example("a", Demonstration()))


@pytest.mark.parametrize(
    ("texts", "preference"),
    [("a", Pair()), ("abc", Pair()), ("ab", Ranking((1,))), ("ab", Demonstration()), ("", Label(True))],
)
def test_a_preference_is_over_the_responses_that_there_are(texts: str, preference: Preference) -> None:
    with pytest.raises(ValueError, match=rf"^x: a {preference.form} of \d responses has {len(texts)}$"):
        example(texts, preference)

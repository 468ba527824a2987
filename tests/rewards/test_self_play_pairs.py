"""Pairs of SPIN and SAPO by hand, and what their segments and replay buffer keep."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.records import Candidate, Demonstration, Example, Pair, Prompt, Response
from seralign.rewards.self_play import (
    Segment,
    asked_prompt,
    before_segment,
    replayed,
    sapo_pairs,
    segment_of,
    spin_pairs,
    with_segment,
)

END = 0


def demonstration(name: str, ids: tuple[int, ...], weight: float = 1.0) -> Example:
    return Example(name, Prompt("same", "say", (9, 8)), (Response(text(ids), ids),), Demonstration(), weight)


def text(ids: tuple[int, ...]) -> str:
    return " ".join(f"w{number}" for number in ids if number != END)


def sampled(name: str, index: int, ids: tuple[int, ...]) -> Candidate:
    return Candidate(name, index, text(ids), ids, ids[-1:] == (END,))


def test_a_demonstration_is_chosen_and_each_usable_response_rejected() -> None:
    one, other = demonstration("a", (5, 6, END), 2.0), demonstration("b", (7, END))
    candidates = {
        "a": [
            sampled("a", 0, (5, 4, END)),
            sampled("a", 1, (5, 4)),
            sampled("a", 2, (END,)),
            sampled("a", 3, (5, 4, END)),
            sampled("a", 4, (5, 6, END)),
            sampled("a", 5, (3, END)),
        ]
    }
    left_out: Counter[str] = Counter()
    found = list(spin_pairs(2, [one, other], candidates, left_out))
    assert [(each.example_id, each.responses[1].ids) for each in found] == [
        ("round2-a-0", (5, 4, END)),
        ("round2-a-5", (3, END)),
    ]
    assert {each.responses[0] for each in found} == {one.responses[0]}
    assert {(each.preference, each.weight, each.origin) for each in found} == {(Pair(), 2.0, "generated:2")}
    assert left_out == {"unfinished": 1, "empty": 1, "repeated": 1, "same as the demonstration": 1}


@pytest.mark.parametrize(
    ("segment", "continued", "wanted"),
    [
        # A B C becomes A B' C.
        (Segment(1, 2), (6, 7), (1, 6, 7, 4, END)),
        # The sampled text ends within the segment: so does the response.
        (Segment(1, 2), (6, END), (1, 6, END)),
        (Segment(1, 2), (END,), (1, END)),
        # It ends after the segment: cut to it.
        (Segment(1, 2), (6, 7, END), (1, 6, 7, 4, END)),
        (Segment(0, 4), (6, 7, 8, 9), (6, 7, 8, 9, END)),
        (Segment(3, 1), (6, 7), (1, 2, 3, 6, END)),
    ],
)
def test_a_segment_is_replaced(segment: Segment, continued: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    assert with_segment((1, 2, 3, 4, END), segment, sampled("a", 0, continued)) == wanted


def test_a_demonstration_is_chosen_and_the_text_with_another_segment_rejected() -> None:
    one = demonstration("a", (1, 2, 3, END))
    candidates = {"a": [sampled("a", index, ids) for index, ids in enumerate([(5,), (2,), (5, 9), (END,), (6,)])]}
    left_out: Counter[str] = Counter()
    found = list(sapo_pairs(1, [one], candidates, {"a": Segment(1, 1)}, text, left_out))
    assert [(each.example_id, each.responses[1]) for each in found] == [
        ("round1-a-0", Response("w1 w5 w3", (1, 5, 3, END))),
        ("round1-a-3", Response("w1", (1, END))),
        ("round1-a-4", Response("w1 w6 w3", (1, 6, 3, END))),
    ]
    assert left_out == {"same as the demonstration": 1, "repeated": 1}


def test_a_text_of_nothing_is_left_out() -> None:
    left_out: Counter[str] = Counter()
    candidates = {"a": [sampled("a", 0, (END,))]}
    assert not list(sapo_pairs(1, [demonstration("a", (1, END))], candidates, {"a": Segment(0, 1)}, text, left_out))
    assert left_out == {"empty": 1}


@given(tokens=st.integers(1, 40), limit=st.integers(1, 50), seed=st.integers(0, 99))
def test_a_segment_is_as_long_as_it_may_be_and_never_has_the_end(tokens: int, limit: int, seed: int) -> None:
    found = segment_of(tokens, limit, seed, "a")
    if tokens == 1:
        assert found is None
        return
    assert found is not None
    assert found.length == min(limit, tokens - 1)
    assert found.start >= 0
    assert found.start + found.length <= tokens - 1
    assert found == segment_of(tokens, limit, seed, "a")


def test_segments_begin_everywhere_with_the_same_probability() -> None:
    counts = Counter(found.start for n in range(4000) if (found := segment_of(6, 2, 0, f"example-{n}")) is not None)
    assert sorted(counts) == [0, 1, 2, 3]
    # Four standard deviations of 4000 draws with probability 1/4.
    assert all(abs(count - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75) for count in counts.values())


def test_what_is_continued_is_the_prompt_and_the_response_before_the_segment() -> None:
    one = demonstration("a", (1, 2, 3, END))
    assert before_segment(one, Segment(2, 1), text) == Prompt("a", "sayw1 w2", (9, 8, 1, 2))
    assert before_segment(one, Segment(0, 1), text) == Prompt("a", "say", (9, 8))
    assert asked_prompt(one) == Prompt("a", "say", (9, 8))


def test_pairs_that_were_used_less_often_are_replayed_more_often() -> None:
    """Of two pairs with weights 1 and 1/4, one is drawn: the first with probability 4/5."""
    drawn = [replayed(["new", "old"], {"old": 3}, 1, seed) for seed in range(2000)]
    share = sum(found == {"new"} for found in drawn) / 2000
    assert abs(share - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 2000)


@given(count=st.integers(0, 12), seed=st.integers(0, 9))
def test_a_replay_draws_distinct_pairs(count: int, seed: int) -> None:
    ids = [f"pair-{number}" for number in range(10)]
    found = replayed(ids, {"pair-3": 5}, count, seed)
    assert found <= set(ids)
    assert len(found) == min(count, 10)

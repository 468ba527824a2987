"""Which responses go through a model together."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from seralign.rewards import responses as scoring
from seralign.rewards.responses import Responses, plan_scoring

ALL = 10**9


def responses_of(rows: list[tuple[list[int], list[int]]]) -> Responses:
    return Responses(tiny.examples_table([(prompt, [response]) for prompt, response in rows]))


def planned(responses: Responses, budget: int, longest: int = ALL) -> list[list[int]]:
    return [sorted(pack.tolist()) for pack in plan_scoring(responses, budget, longest)]


def test_the_responses_to_a_prompt_stay_together_wherever_they_stand() -> None:
    """Prompts of 4 tokens, responses of 2: three together are 10 tokens, two groups 20."""
    rows = [([number % 2] * 4, [number, number]) for number in range(6)]
    assert sorted(planned(responses_of(rows), 10)) == [[0, 2, 4], [1, 3, 5]]
    assert planned(responses_of(rows), 20) == [[0, 1, 2, 3, 4, 5]]


def test_a_group_beyond_the_budget_is_divided_and_pays_its_prompt_again() -> None:
    """A prompt of 4 tokens and five responses of 2: a budget of 8 holds the prompt and two of them."""
    rows = [([7] * 4, [number, number]) for number in range(5)]
    assert sorted(planned(responses_of(rows), 8)) == [[0, 1], [2, 3], [4]]


def test_equal_responses_are_planned_once() -> None:
    rows = [([1], [2]), ([1], [3]), ([1], [2]), ([4], [2])]
    assert planned(responses_of(rows), 100) == [[0, 1, 3]]


def test_what_is_too_long_to_pack_is_padded_and_counts_as_such() -> None:
    """Two sequences of 8 tokens cannot be packed: a budget of 16 holds both, one of 15 holds one."""
    rows = [([1] * 4, [2] * 4), ([1] * 4, [3] * 4), ([1] * 4, [4])]
    assert planned(responses_of(rows), 16, longest=5) == [[0, 1], [2]]
    assert planned(responses_of(rows), 15, longest=5) == [[0], [1], [2]]


def test_nothing_to_score_is_no_pack() -> None:
    assert planned(responses_of([]), 10) == []


def test_responses_are_planned_once_for_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Policy, reference and each reward policy score the same responses in the same packs."""
    budgets = []

    def counted(responses: Responses, tokens: int, longest: int) -> list[np.ndarray]:
        budgets.append(tokens)
        return plan_scoring(responses, tokens, longest)

    monkeypatch.setattr(scoring, "plan_scoring", counted)
    responses = responses_of([([number % 2] * 4, [number, number]) for number in range(6)])
    found = [[sorted(pack.tolist()) for pack in responses.packs(tokens, ALL)] for tokens in (10, 10, 20, 10)]
    assert [sorted(packs) for packs in found] == [[[0, 2, 4], [1, 3, 5]]] * 2 + [[[0, 1, 2, 3, 4, 5]]] + found[:1]
    assert budgets == [10, 20]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=30),
    st.integers(1, 60),
    st.sampled_from([0, 8, ALL]),
)
def test_each_distinct_response_is_in_one_pack_within_the_budget(
    shapes: list[tuple[int, int, int]], budget: int, longest: int
) -> None:
    rows = [([prompt] * (prompt + 1), [token] * length) for prompt, length, token in shapes]
    responses = responses_of(rows)
    packs = plan_scoring(responses, budget, longest)
    numbers = np.concatenate(packs).tolist()
    assert len(set(numbers)) == len(numbers)
    assert set(responses.keys[numbers].tolist()) == set(responses.keys.tolist())
    for pack in packs:
        own = [rows[number] for number in pack]
        width = max(len(prompt) + len(response) for prompt, response in own)
        shared = {tuple(prompt) for prompt, _ in own}
        packed = sum(map(len, shared)) + sum(len(response) for _, response in own)
        tokens = packed if width <= longest else width * len(own)
        assert tokens <= budget or len(own) == 1

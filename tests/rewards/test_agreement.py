"""Agreement of two rankings of the responses to a prompt: by hand, and as properties."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seralign.rewards.agreement import agreement_labels, ranking_agreement


def test_by_hand() -> None:
    """Of three pairs of responses, a has 2 in the same order, b all, c none; the rewards of d do not rank."""
    last = np.array([3.0, 2.0, 1.0, 9.0, 0.5, -4.0, 1.0, 2.0, 5.0, 5.0, 100.0])
    before = np.array([3.0, 1.0, 2.0, 0.3, 0.2, 0.1, 7.0, 6.0, 1.0, 2.0, -100.0])
    usable = {"a": [0, 1, 2], "b": [5, 3, 4], "c": [6, 7], "d": [8, 9]}
    found = ranking_agreement(((name, np.array(rows)) for name, rows in usable.items()), last, before)
    assert found == pytest.approx({"a": 2 / 3, "b": 1.0, "c": 0.0, "d": 0.5})
    assert agreement_labels(found, ["c", "a"], "prompt") == pytest.approx([0.0, 2 / 3])
    # The mean is over all prompts, and not over those with a pair.
    assert agreement_labels(found, ["c", "a"], "dataset") == pytest.approx([6.5 / 12] * 2)
    assert agreement_labels({}, [], "dataset") == []


@settings(max_examples=30)
@given(st.permutations(range(5)), st.permutations(range(5)))
def test_it_is_the_share_of_pairs_in_the_same_order(first: list[int], second: list[int]) -> None:
    same = [(first[i] < first[j]) == (second[i] < second[j]) for i, j in combinations(range(5), 2)]
    rewards = np.array(first, dtype=float), np.exp(np.array(second, dtype=float))
    assert ranking_agreement([("x", np.arange(5))], *rewards)["x"] == pytest.approx(np.mean(same))
    turned = ranking_agreement([("x", np.arange(5))], rewards[0], -rewards[1])["x"]
    assert turned == pytest.approx(1 - np.mean(same))

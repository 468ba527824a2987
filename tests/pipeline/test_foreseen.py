"""Rows of a training before they are there, whatever the number of responses of each."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from seralign.pipeline.forecast.foreseen import TrainingRows, joined, some_rows, table_rows
from seralign.rewards.responses import Responses
from seralign.training.plan import Pack, response_packs

COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=6)


def table(counts: list[int], first: int) -> datasets.Dataset:
    """Examples with so many responses each; every prompt and response is another."""
    tokens = iter(range(first, first + 10_000))
    rows = [
        ([next(tokens)] * (1 + count), [[next(tokens)] * (1 + place) for place in range(count)]) for count in counts
    ]
    return tiny.examples_table(rows)


def same(one: TrainingRows, other: TrainingRows) -> bool:
    columns = zip(
        (one.sizes.packed, one.sizes.longest, one.sizes.sequences, one.prompts),
        (other.sizes.packed, other.sizes.longest, other.sizes.sequences, other.prompts),
        strict=True,
    )
    return np.array_equal(one.keys, other.keys) and all(np.array_equal(mine, theirs) for mine, theirs in columns)


@pytest.mark.parametrize("reads", ["all", "first"])
@settings(max_examples=15, deadline=None)
@given(own=COUNTS, made=COUNTS, data=st.data())
def test_chosen_and_joined_rows_are_those_of_the_chosen_and_joined_tables(reads, own, made, data) -> None:
    one, other = table(own, 10), table(made, 20_000)
    chosen = data.draw(st.lists(st.integers(0, len(own) - 1), min_size=1, unique=True))
    rows = table_rows(one, reads)
    assert same(some_rows(rows, np.array(chosen)), table_rows(one.select(chosen), reads))
    both = datasets.concatenate_datasets([one, other])
    assert same(joined(rows, table_rows(other, reads)), table_rows(both, reads))


@pytest.mark.parametrize("reads", ["all", "first"])
@settings(max_examples=15, deadline=None)
@given(counts=COUNTS, data=st.data())
def test_a_pack_of_rows_is_a_pack_of_their_responses(reads, counts, data) -> None:
    examples = table(counts, 10)
    rows, responses = table_rows(examples, reads), Responses(examples, reads)
    order = np.array(data.draw(st.permutations(range(len(counts)))))
    packs = [Pack(order[:2]), *([Pack(order[2:])] if len(order) > 2 else [])]
    for pack, numbers in zip(packs, response_packs(packs, rows.numbering), strict=True):
        assert rows.rows_of(numbers).tolist() == pack.rows.tolist()
        given = examples[pack.rows.tolist()]["response_ids"]
        most = 1 if reads == "first" else max(map(len, given))
        expected = [ids[place] for place in range(most) for ids in given if len(ids) > place]
        assert [ids for _, ids in responses.sequences(numbers)] == expected
        assert rows.keys[numbers].tolist() == responses.keys[numbers].tolist()


def test_rows_by_hand() -> None:
    """Prompts of 3 and 2 tokens; responses of 1 and 2 tokens, and of 1: 3 + 1 + 2 and 2 + 1 tokens packed."""
    rows = table_rows(table([2, 1], 10), "all")
    assert rows.sizes.packed.tolist() == [6, 3]
    assert rows.sizes.longest.tolist() == [5, 3]
    # Padded: three sequences of 5 tokens; apart: the first prompt once more.
    everything = np.array([0, 1])
    assert (rows.tokens(everything, 2**62), rows.tokens(everything, 4), rows.apart(everything)) == (9, 15, 12)
    assert (rows.largest(2**62), rows.largest(4)) == (6, 10)

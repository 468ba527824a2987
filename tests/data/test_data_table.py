"""Columns of tables of examples, whose rows may be chosen, turned, repeated or of several files."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from seralign.data.numbering import Numbering
from seralign.data.table import read_table, write_examples
from seralign.data.table_columns import column_lengths, column_values, id_column, weights
from seralign.records import Example, Pair, Prompt, Response


def table_of(path: Path, count: int, first: int = 0) -> datasets.Dataset:
    """Pairs with prompts of different lengths and weights of their own."""
    write_examples(
        path,
        (
            Example(f"e{at}", Prompt(f"p{at}", "", tuple(range(at % 7))), (Response("a", (1,)), Response("b", (2,))),
                    Pair(), weight=0.1 * at)
            for at in range(first, first + count)
        ),
    )  # fmt: skip
    return read_table(path)


@pytest.mark.parametrize("rows", [[], [3], [998, 2, 2, 700, 1, 0], list(range(600, 100, -1))])
def test_columns_of_chosen_rows(rows: list[int], tmp_path: Path) -> None:
    whole = datasets.concatenate_datasets([table_of(tmp_path / "a", 600), table_of(tmp_path / "b", 400, 600)])
    some = whole.select(rows)
    assert list(column_values(some, "example_id")) == [f"e{row}" for row in rows]
    assert column_lengths(some, "prompt_ids").tolist() == [row % 7 for row in rows]
    np.testing.assert_array_equal(weights(some), np.array([0.1 * row for row in rows], dtype=np.float32))


def test_a_column_is_read_from_the_file_without_a_copy(tmp_path: Path) -> None:
    table = table_of(tmp_path / "a", 3000)
    before = pa.total_allocated_bytes()
    ids = id_column(table)
    assert len(ids) == 3000
    assert ids[2999].as_py() == "e2999"
    assert pa.total_allocated_bytes() == before


def test_numbers_in_order_of_examples() -> None:
    assert Numbering(np.array([1, 3, 0, 2])).by_row.tolist() == [0, 1, 3, 5, 2, 4]
    assert Numbering(np.zeros(0, dtype=np.int64)).by_row.tolist() == []

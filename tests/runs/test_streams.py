"""Tables on the disk: what is taken from them is what ``Table.take`` gives, without joining their batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.runs.streams import StoredRows, write_stream

# It must live as long as what was allocated in it.
POOL = pa.proxy_memory_pool(pa.default_memory_pool())
SCHEMA = pa.schema([("text", pa.string()), ("ids", pa.list_(pa.int32()))])


def part(*numbers: int) -> pa.Table:
    return pa.table({"text": [f"t{n}" for n in numbers], "ids": [[n] * (n % 4) for n in numbers]}, schema=SCHEMA)


@given(st.lists(st.integers(0, 5), max_size=6), st.data())
def test_rows_are_those_of_the_table_in_the_order_asked_for(sizes: list[int], data: st.DataObject) -> None:
    ends = np.cumsum(sizes).tolist()
    table = pa.concat_tables(
        [SCHEMA.empty_table(), *(part(*range(end - size, end)) for size, end in zip(sizes, ends, strict=True))]
    )
    rows = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=20)) if len(table) else []
    found = StoredRows(table).take(np.array(rows, dtype=np.int64))
    assert found.schema == SCHEMA
    assert found.to_pylist() == [table.slice(row, 1).to_pylist()[0] for row in rows]


def test_a_stream_has_the_rows_of_its_parts_and_may_be_deleted_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    table = write_stream(path, SCHEMA, [part(1, 2), SCHEMA.empty_table(), part(3)])
    path.unlink()
    assert table.to_pylist() == part(1, 2, 3).to_pylist()


def test_taking_rows_holds_no_more_than_these(tmp_path: Path) -> None:
    """40 MB on the disk; the rows that are taken have 20 kB."""
    wide = pa.table({"text": ["x" * 20_000] * 100, "ids": [[1]] * 100}, schema=SCHEMA)
    table = write_stream(tmp_path / "wide.arrow", SCHEMA, (wide for _ in range(20)))
    default = pa.default_memory_pool()
    pa.set_memory_pool(POOL)
    try:
        found = StoredRows(table).take(np.array([1999], dtype=np.int64))
    finally:
        pa.set_memory_pool(default)
    assert len(found["text"][0].as_py()) == 20_000
    assert POOL.max_memory() == pytest.approx(20_000, abs=200_000)

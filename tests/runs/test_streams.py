"""Tables on the disk: what is taken from them is what ``Table.take`` gives, without joining their batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.runs.files import read_stream
from seralign.runs.streams import StoredRows, write_batches, write_stream

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


def test_small_batches_are_joined_since_an_open_table_takes_memory_for_each(tmp_path: Path) -> None:
    small = [part(*range(at, at + 250)).to_batches()[0] for at in range(0, 25_000, 250)]
    empty = SCHEMA.empty_table().to_batches(max_chunksize=1) or [pa.RecordBatch.from_pylist([], schema=SCHEMA)]
    write_batches(tmp_path / "rows.arrow", SCHEMA, [*empty, *small, *empty])
    table = read_stream(tmp_path / "rows.arrow")
    assert table.equals(part(*range(25_000)))
    assert [len(batch) for batch in table.to_batches()] == [10_000, 10_000, 5_000]
    write_batches(tmp_path / "none.arrow", SCHEMA, empty * 3)
    assert read_stream(tmp_path / "none.arrow")["text"].chunks == []


def test_large_batches_are_not_joined(tmp_path: Path) -> None:
    wide = pa.RecordBatch.from_pylist([{"text": "x" * 3 * 2**20, "ids": [1]}], schema=SCHEMA)
    write_batches(tmp_path / "rows.arrow", SCHEMA, [wide] * 3)
    assert [len(batch) for batch in read_stream(tmp_path / "rows.arrow").to_batches()] == [1, 1, 1]


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

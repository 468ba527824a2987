"""Arrow tables on the disk: written part by part, memory-mapped, and taken from without holding them in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from seralign.runs.files import read_stream


def write_stream(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> pa.Table:
    """Write the rows of tables one after the other, a batch for each, and return them memory-mapped.

    The file may be deleted while the table is used.
    """
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for table in tables:
            for batch in table.cast(schema).combine_chunks().to_batches():
                writer.write_batch(batch)
    return read_stream(path)


def take_rows(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """The rows of a table with the given numbers [N], in their order, in memory.

    Unlike ``Table.take``, which joins all batches of a table first, it holds nothing but these rows.
    """
    batches = table.to_batches()
    ends = np.cumsum([len(batch) for batch in batches])
    which = np.searchsorted(ends, rows, side="right")
    order = np.argsort(which, kind="stable")
    parts = []
    for number in np.unique(which).tolist():
        own = rows[which == number] - (ends[number] - len(batches[number]))
        parts.append(pa.Table.from_batches([batches[number].take(pa.array(own, pa.int64()))]))
    if not parts:
        return table.schema.empty_table()
    back = np.empty(len(rows), dtype=np.int64)
    back[order] = np.arange(len(rows))
    return pa.concat_tables(parts).combine_chunks().take(pa.array(back))

"""Arrow tables on the disk: written part by part, memory-mapped, and taken from without holding them in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from seralign.runs.files import read_stream

# Of a batch, unless a single one that is given has more. An open table takes ten kB for each batch, whatever its rows.
_ROWS, _BYTES = 10_000, 2**20


def write_stream(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> pa.Table:
    """Write the rows of tables one after the other, and return them memory-mapped.

    The file may be deleted while the table is used.
    """
    write_batches(path, schema, (batch for table in tables for batch in table.cast(schema).to_batches()))
    return read_stream(path)


def write_batches(path: Path | str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write batches to an Arrow stream. Small ones are joined, and empty ones are left out."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for some in _joined(batches):
            for batch in pa.Table.from_batches(some, schema).combine_chunks().to_batches():
                writer.write_batch(batch)


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Lists of batches that are small enough to be one."""
    held, rows, size = list[pa.RecordBatch](), 0, 0
    for batch in batches:
        if held and (rows + len(batch) > _ROWS or size + batch.nbytes > _BYTES):
            yield held
            held, rows, size = [], 0, 0
        if len(batch):
            held.append(batch)
            rows, size = rows + len(batch), size + batch.nbytes
    if held:
        yield held


def packed(parts: Iterable[bytes], kind: str) -> np.ndarray:
    """Byte strings of equal length as an array [N] of a numpy type, such as ``V16``; holds no object for each."""
    joined = bytearray()
    for part in parts:
        joined += part
    return np.frombuffer(joined, kind)


class StoredRows:
    """The rows of a table, by number, in memory only while they are used.

    Unlike ``Table.take``, which joins all batches of a table first, ``take`` holds nothing but the rows that it gives.
    """

    def __init__(self, table: pa.Table) -> None:
        self._schema, self._batches = table.schema, table.to_batches()
        self._ends = np.cumsum([len(batch) for batch in self._batches])

    def take(self, rows: np.ndarray) -> pa.Table:
        """The rows with the given numbers [N], in their order."""
        which = np.searchsorted(self._ends, rows, side="right")
        order = np.argsort(which, kind="stable")
        parts = []
        for own in np.split(order, np.flatnonzero(np.diff(which[order])) + 1) if len(rows) else ():
            number = which[own[0]]
            start = self._ends[number] - len(self._batches[number])
            parts.append(self._batches[number].take(pa.array(rows[own] - start, pa.int64())))
        back = np.empty(len(rows), dtype=np.int64)
        back[order] = np.arange(len(rows))
        return pa.Table.from_batches(parts, self._schema).combine_chunks().take(pa.array(back))

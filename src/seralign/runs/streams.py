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

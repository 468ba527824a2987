"""Rows of Arrow tables: Parquet files, saved datasets, hub datasets. Holds a few hundred rows at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, cast

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from seralign.data.readers.json_rows import json_value
from seralign.data.readers.part import Located, Part, Size, check_names, place
from seralign.data.readers.streams import readable
from seralign.errors import DataError

BATCH = 250
_END = b"\xff\xff\xff\xff\0\0\0\0"

Mend = Callable[[Any, str], Any]


def parquet_part(file: str, start: Callable[[], BinaryIO]) -> Part:
    """A Parquet file, read in batches; ``file`` is its name, for messages, and ``start`` opens it."""

    def batches() -> Iterator[pa.RecordBatch]:
        with start() as stream, pq.ParquetFile(stream) as parquet:
            yield from parquet.iter_batches(batch_size=BATCH)

    def schema() -> pa.Schema:
        with start() as stream, pq.ParquetFile(stream) as parquet:
            return parquet.schema_arrow

    return _part(file, schema, batches)


def saved_part(name: str, files: Sequence[Path]) -> Part:
    """A dataset written by ``save_to_disk``, from its Arrow files."""

    def batches() -> Iterator[pa.RecordBatch]:
        for path in files:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
                _check_end(path, name)
                for batch in stream:
                    yield from (batch.slice(start, BATCH) for start in range(0, batch.num_rows, BATCH))

    def schema() -> pa.Schema:
        with pa.memory_map(str(files[0])) as source, pa.ipc.open_stream(source) as stream:
            return stream.schema

    return _part(name, schema, batches)


def dataset_part(name: str, dataset: datasets.Dataset) -> Part:
    """An open dataset of the ``datasets`` library; ``name`` is for messages."""

    def batches() -> Iterator[pa.Table]:
        yield from cast(Iterable[pa.Table], dataset.with_format("arrow").iter(BATCH))

    return _part(name, lambda: dataset.features.arrow_schema, batches)


def _check_end(path: Path, name: str) -> None:
    """Check that a stream is complete. Arrow accepts one that was truncated between two batches."""
    with path.open("rb") as stream:
        stream.seek(-len(_END), os.SEEK_END)
        if stream.read() != _END:
            raise DataError(f"{name} cannot be read: {path.name} is truncated")


def _part(
    name: str, schema: Callable[[], pa.Schema], batches: Callable[[], Iterator[pa.RecordBatch | pa.Table]]
) -> Part:
    def read() -> Iterator[Located]:
        row = count(1)
        with readable(name):
            for batch in batches():
                mends = {field.name: mend for field in batch.schema if (mend := _mend(field.type))}
                for values in batch.to_pylist():
                    where = place(name, next(row))
                    for column, mend in mends.items():
                        values[column] = mend(values[column], where)
                    yield values, where

    def measure(limit: int | None) -> Size:
        with readable(name):
            columns = tuple(schema().names)
            rows = 0
            check_names(columns, name)
            for batch in batches():
                _check_text(batch, rows, name)
                rows += batch.num_rows
                if limit is not None and rows >= limit:
                    return Size(limit, columns)
            return Size(rows, columns)

    return Part(read, measure)


def _check_text(batch: pa.RecordBatch | pa.Table, before: int, name: str) -> None:
    """Check that text is UTF-8. Arrow does not check, and fails only when the row is read."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        if batch.num_rows == 1:
            raise DataError(f"{place(name, before + 1)} cannot be read: {error}") from None
        half = batch.num_rows // 2
        _check_text(batch.slice(0, half), before, name)
        _check_text(batch.slice(half), before + half, name)


def _mend(kind: pa.DataType) -> Mend | None:
    """A function that restores the original value from an Arrow type; None if there is nothing to restore.

    A struct gives every row the keys of all rows; the added nulls are not in the original data. ``datasets`` stores
    mixed types as JSON text in a type of its own.
    """
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json":
        return lambda value, where: None if value is None else json_value(value, where)
    if pa.types.is_struct(kind):
        inner = {field.name: _mend(field.type) for field in kind}
        return lambda value, where: None if value is None else _mended(value, inner, where)
    if pa.types.is_map(kind):
        pairs = {"value": _mend(kind.item_type)}
        return lambda value, where: (
            None if value is None else {key: _mended({"value": item}, pairs, where).get("value") for key, item in value}
        )
    if pa.types.is_decimal(kind):
        return lambda value, where: None if value is None else float(value)
    if isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        mend = _mend(kind.value_type)
        if mend is not None:
            return lambda value, where: None if value is None else [mend(item, where) for item in value]
    return None


def _mended(value: dict[str, Any], inner: dict[str, Mend | None], where: str) -> dict[str, Any]:
    mends = ((key, item, inner.get(key)) for key, item in value.items() if item is not None)
    return {key: item if mend is None else mend(item, where) for key, item, mend in mends}

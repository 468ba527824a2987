"""Pairs as rows of a file: JSON lines or Parquet, written atomically."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seralign.errors import DataError
from seralign.preferences.config import PROVENANCE
from seralign.preferences.opinions import Opinion, Scored
from seralign.preferences.pairing import Chosen
from seralign.preferences.stored import Judged
from seralign.runs.files import write_atomic

_BATCH = 5_000


def pair_row(one: Judged, pair: Chosen, titles: Sequence[str]) -> dict[str, Any]:
    """A pair as ``data.pairs`` reads it, with its provenance and the columns that are kept."""
    chosen, rejected = one.responses[pair.chosen], one.responses[pair.rejected]
    row = {"prompt": one.prompt, "chosen": chosen, "rejected": rejected, "p": pair.p, **one.inputs}
    said = {title: _said(opinion, pair) for title, opinion in zip(titles, one.opinions, strict=True)}
    places = f"responses {pair.chosen} and {pair.rejected}"
    row |= dict(zip(PROVENANCE, ("+".join(titles), f"{one.where}, {places}", json.dumps(said)), strict=True))
    return {**row, **one.kept[pair.chosen if len(one.kept) > 1 else 0]}


def _said(opinion: Opinion, pair: Chosen) -> Any:
    """What a signal said of the chosen and the rejected response: their scores, or the ballots on them."""
    if isinstance(opinion, Scored):
        return [opinion.scores[pair.chosen], opinion.scores[pair.rejected]]
    found = []
    for one in opinion.ballots:
        if {one.first, one.second} == {pair.chosen, pair.rejected}:
            chosen_better = one.first_better if one.first == pair.chosen else 1.0 - one.first_better
            found.append({"annotator": one.annotator, "chosen_better": chosen_better, "weight": one.weight})
    return found


def write_rows(path: Path, rows: Callable[[], Iterable[dict[str, Any]]]) -> None:
    """Write rows to a .jsonl or .parquet file; the file is whole or not there.

    Args:
        path: The file.
        rows: Gives the rows from the first one; called twice for Parquet, whose columns have to be known before.

    Raises:
        DataError: A column has values of several types, which Parquet cannot hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda part: (_parquet if path.suffix == ".parquet" else _lines)(part, rows))


def _lines(path: Path, rows: Callable[[], Iterable[dict[str, Any]]]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for row in rows():
            stream.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _parquet(path: Path, rows: Callable[[], Iterable[dict[str, Any]]]) -> None:
    try:
        schemas = [pa.Table.from_pylist(batch).schema for batch in _batches(rows())]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in _batches(rows()):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    except pa.ArrowException as error:
        raise DataError(
            f"{path.name}: the values of a column have several types, which Parquet cannot hold ({error}); "
            "write .jsonl instead (out)"
        ) from None


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    rest = iter(rows)
    while batch := list(islice(rest, _BATCH)):
        columns = {name: None for row in batch for name in row}
        yield [columns | row for row in batch]

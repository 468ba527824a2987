"""Pairs, rankings and scores as rows of a file: JSON lines or Parquet, written atomically."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seralign.errors import DataError
from seralign.preferences.kept import PROVENANCE
from seralign.preferences.opinions import Opinion, Scored
from seralign.preferences.ordering import Ranked
from seralign.preferences.pairing import Chosen
from seralign.preferences.stored import Judged
from seralign.runs.files import write_atomic

_BATCH = 5_000


def pair_row(one: Judged, pair: Chosen, titles: Sequence[str]) -> dict[str, Any]:
    """A pair as ``data.pairs`` reads it, with its provenance and the columns that are kept."""
    chosen, rejected = one.responses[pair.chosen], one.responses[pair.rejected]
    row = {"prompt": one.prompt, "chosen": chosen, "rejected": rejected, "p": pair.p, **one.inputs}
    said = [_of_pair(opinion, pair) for opinion in one.opinions]
    row |= _provenance(one, titles, f"responses {pair.chosen} and {pair.rejected}", said)
    return {**row, **one.kept, **(one.each[pair.chosen] if one.each else {})}


def ranking_row(one: Judged, ranked: Ranked, titles: Sequence[str]) -> dict[str, Any]:
    """A ranking as ``data.pairs`` reads it, with its provenance and the columns that are kept.

    A column that the responses have in rows or objects of their own is a list, in the order of ``responses``.
    """
    order = ranked.order
    responses, ranks = [one.responses[index] for index in order], list(ranked.ranks)
    row = {"prompt": one.prompt, "responses": responses, "ranks": ranks, **one.inputs}
    said = [_of_ranking(opinion, order) for opinion in one.opinions]
    row |= _provenance(one, titles, f"responses {', '.join(map(str, order))}", said)
    own = one.each[0] if one.each else ()
    return {**row, **one.kept, **{name: [one.each[index][name] for index in order] for name in own}}


def score_row(one: Judged, index: int, score: float, titles: Sequence[str]) -> dict[str, Any]:
    """A response with its score as ``data.pairs`` reads it, with its provenance and the columns that are kept."""
    row = {"prompt": one.prompt, "response": one.responses[index], "score": score, **one.inputs}
    said = [_of_response(opinion, index) for opinion in one.opinions]
    row |= _provenance(one, titles, f"response {index}", said)
    return {**row, **one.kept, **(one.each[index] if one.each else {})}


def _provenance(one: Judged, titles: Sequence[str], places: str, said: Sequence[Any]) -> dict[str, str]:
    values = json.dumps(dict(zip(titles, said, strict=True)))
    return dict(zip(PROVENANCE, ("+".join(titles), f"{one.where}, {places}", values), strict=True))


def _of_pair(opinion: Opinion, pair: Chosen) -> Any:
    """What a signal said of the chosen and the rejected response: their scores, or the ballots on them."""
    if isinstance(opinion, Scored):
        return [opinion.scores[pair.chosen], opinion.scores[pair.rejected]]
    found = []
    for one in opinion.ballots:
        if {one.first, one.second} == {pair.chosen, pair.rejected}:
            chosen_better = one.first_better if one.first == pair.chosen else 1.0 - one.first_better
            found.append({"annotator": one.annotator, "chosen_better": chosen_better, "weight": one.weight})
    return found


def _of_ranking(opinion: Opinion, order: Sequence[int]) -> Any:
    """What a signal said of ranked responses: their scores, or the ballots on any two of them, by their new places."""
    if isinstance(opinion, Scored):
        return [opinion.scores[index] for index in order]
    place = {index: at for at, index in enumerate(order)}
    return [
        {"annotator": one.annotator, "responses": [place[one.first], place[one.second]],
         "first_better": one.first_better, "weight": one.weight}
        for one in opinion.ballots
        if one.first in place and one.second in place
    ]  # fmt: skip


def _of_response(opinion: Opinion, index: int) -> Any:
    """What a signal said of a response: its score, or the ballots on it and another one."""
    if isinstance(opinion, Scored):
        return opinion.scores[index]
    found = []
    for one in opinion.ballots:
        if index in (one.first, one.second):
            better, other = (one.first_better, one.second) if one.first == index else (1 - one.first_better, one.first)
            found.append({"annotator": one.annotator, "than": other, "better": better, "weight": one.weight})
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

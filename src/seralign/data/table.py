"""The tables of pairs and prompts: Arrow streams, written in pieces and memory-mapped when read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value

from seralign.records import Pair, Prompt

# Rows held at once. A row of a few thousand tokens takes about 200 kB while it is made of Python's numbers.
CHUNK = 250
# Rows of one column read at once; they stay Arrow's.
_READ = 10_000
_SIDES = ("chosen_ids", "rejected_ids")

PAIR_FEATURES = Features(
    {name: Value("string") for name in ("pair_id", "prompt_id", "origin", "prompt", "chosen", "rejected")}
    | {name: List(Value("int32")) for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
    | {name: Value("float64") for name in ("p", "weight")}
)
PROMPT_FEATURES = Features({"prompt_id": Value("string"), "text": Value("string"), "ids": List(Value("int32"))})


def write_pairs(path: Path | str, pairs: Iterable[Pair]) -> int:
    """Write pairs to an Arrow stream, ``CHUNK`` at a time; returns how many. Not atomic: give a temporary path."""
    return _write(path, pairs, PAIR_FEATURES)


def write_prompts(path: Path | str, prompts: Iterable[Prompt]) -> int:
    """Write prompts to an Arrow stream, as ``write_pairs``."""
    return _write(path, prompts, PROMPT_FEATURES)


def read_table(path: Path | str) -> Dataset:
    """A table of pairs or prompts, memory-mapped; it may be empty."""
    return Dataset.from_file(str(path))


def write_subset(path: Path | str, table: Dataset, pair_ids: Sequence[str]) -> Dataset:
    """Write the rows of a table of pairs that have one of ``pair_ids``, in its order; returns them memory-mapped."""
    wanted = pa.array(pair_ids, pa.string())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, PAIR_FEATURES.arrow_schema) as writer:
        for batch in table.data.table.to_batches(max_chunksize=CHUNK):
            writer.write_batch(batch.filter(pc.is_in(batch["pair_id"], value_set=wanted)))  # pyright: ignore
    return read_table(path)


def column_lengths(table: Dataset, column: str) -> np.ndarray:
    """[N] lengths of a column of lists, without making Python lists of them."""
    parts = [pc.list_value_length(lists).to_numpy() for lists in _lists(table, column)]  # pyright: ignore
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(np.int64)


def training_columns(table: Dataset) -> Dataset:
    """A table without its texts: what a training reads."""
    return table.select_columns(["pair_id", "prompt_ids", "chosen_ids", "rejected_ids", "p", "weight"])


def largest_token(table: Dataset) -> int:
    """The largest token id of a table of examples or prompts; -1 where it has none."""
    names = [name for name in ("prompt_ids", "ids", *_SIDES) if name in table.column_names]
    return max((int(ids.max()) for name in names for ids in column_arrays(table, name) if len(ids)), default=-1)


def example_ids(table: Dataset) -> list[str]:
    """The ids of a table's examples [N]."""
    return table["pair_id"][:]


def pair_labels(pairs: Dataset) -> np.ndarray:
    """p [N]: the probability that the first response of each pair is the better one."""
    return np.array(pairs["p"][:], dtype=np.float64)


def response_lengths(table: Dataset, place: int) -> np.ndarray:
    """Tokens of one response of each example [N]: of the first one where ``place`` is 0."""
    return column_lengths(table, _SIDES[place])


def response_ids(table: Dataset, place: int) -> Iterator[np.ndarray]:
    """The token ids of one response of each example, int64 [length] each; see ``column_arrays``."""
    return column_arrays(table, _SIDES[place])


def response_texts(table: Dataset, place: int) -> list[str]:
    """The texts of one response of each example [N]."""
    return table[("chosen", "rejected")[place]][:]


def length_difference(pairs: Dataset) -> np.ndarray:
    """Tokens of the first less those of the second response of each pair [N]."""
    return (response_lengths(pairs, 0) - response_lengths(pairs, 1)).astype(np.float64)


def column_arrays(table: Dataset, column: str) -> Iterator[np.ndarray]:
    """The lists of a column of token ids, row by row, int64 [length] each, without making Python lists of them."""
    for lists in _lists(table, column):
        ids = lists.flatten().to_numpy().astype(np.int64)
        ends = lists.offsets.to_numpy() - lists.offsets[0].as_py()
        for start, end in pairwise(ends.tolist()):
            yield ids[start:end]


def to_pair(row: Mapping[str, Any]) -> Pair:
    """A row of a table of pairs as the record."""
    return Pair(**{field.name: _value(row[field.name]) for field in fields(Pair)})


def to_prompt(row: Mapping[str, Any]) -> Prompt:
    """A row of a table of prompts as the record."""
    return Prompt(row["prompt_id"], row["text"], tuple(row["ids"]))


def prompts_of(pairs: Dataset) -> Iterator[Prompt]:
    """The different prompts of a table of pairs, in the order of their first pairs."""
    seen: set[str] = set()
    for item in pairs.select_columns(["prompt_id", "prompt", "prompt_ids"]):
        row = cast(dict[str, Any], item)
        if row["prompt_id"] not in seen:
            seen.add(row["prompt_id"])
            yield Prompt(row["prompt_id"], row["prompt"], tuple(row["prompt_ids"]))


def _lists(table: Dataset, column: str) -> Iterator[pa.ListArray]:
    for rows in table.select_columns([column]).with_format("arrow").iter(_READ):
        yield cast(pa.Table, rows).column(column).combine_chunks()  # pyright: ignore


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _write(path: Path | str, records: Iterable[Pair] | Iterable[Prompt], features: Features) -> int:
    schema = features.arrow_schema
    written, remaining = 0, iter(records)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while chunk := list(islice(remaining, CHUNK)):
            columns = {name: [getattr(record, name) for record in chunk] for name in schema.names}
            writer.write_batch(pa.record_batch(columns, schema=schema))
            written += len(chunk)
    return written

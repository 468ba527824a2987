"""Tables of examples and prompts: Arrow streams, written in chunks and memory-mapped for reading.

``seralign.data.table_columns`` reads their columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from datasets import Dataset

from seralign.data.first_uses import FirstUses
from seralign.records import Example, Prompt, Response, preference_of
from seralign.runs.examples import CARRIED, EXAMPLE_SCHEMA, carried_columns
from seralign.runs.streams import write_batches

# Rows held at once. A row of a few thousand tokens takes about 200 kB as Python numbers.
CHUNK = 250

PROMPT_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("text", pa.string()),
        ("ids", pa.list_(pa.int32())),
        ("messages", pa.string()),
        ("template_inputs", pa.string()),
    ]
)
PROMPT_COLUMNS = ["prompt_id", "prompt", "prompt_ids", "messages", "template_inputs"]
"""Columns of a table of examples with their prompts."""
_AS_PROMPTS = ["prompt_id", "text", "ids", "messages", "template_inputs"]


def write_examples(path: Path | str, examples: Iterable[Example], carried: Sequence[str] = ()) -> int:
    """Write examples to an Arrow stream in chunks; return their number. Not atomic: give a temporary path.

    Args:
        path: The file.
        examples: The examples.
        carried: Names of the carried columns.
    """
    schema = EXAMPLE_SCHEMA
    for name in carried:
        schema = schema.append(pa.field(f"{CARRIED}{name}", pa.string()))
    return _write(path, examples, schema, lambda chunk: example_columns(chunk, carried))


def write_prompts(path: Path | str, prompts: Iterable[Prompt]) -> int:
    """Write prompts to an Arrow stream; like ``write_examples``."""
    return _write(
        path,
        prompts,
        PROMPT_SCHEMA,
        lambda chunk: {name: [getattr(prompt, name) for prompt in chunk] for name in PROMPT_SCHEMA.names},
    )


def read_table(path: Path | str) -> Dataset:
    """Open a table of examples or prompts, memory-mapped; it may be empty."""
    return Dataset.from_file(str(path))


def write_subset(path: Path | str, table: Dataset, wanted: np.ndarray) -> Dataset:
    """Write the rows of a table from a file that are ``wanted`` [N], in their order; return them memory-mapped."""
    rows: pa.Table = table.data.table

    def chosen() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in rows.to_batches():
            yield batch.filter(pa.array(wanted[start : start + len(batch)]))
            start += len(batch)

    write_batches(path, rows.schema, chosen())
    return read_table(path)


def write_prompts_of(path: Path | str, table: Dataset) -> None:
    """Write the distinct prompts of a table of examples from a file, in order of first use, as ``write_prompts``."""
    seen, rows = FirstUses(), cast(pa.Table, table.data.table).select(PROMPT_COLUMNS)

    def first_uses() -> Iterator[pa.RecordBatch]:
        for batch in rows.to_batches():
            is_first = [seen.add(name) is None for name in batch["prompt_id"].to_pylist()]
            some = pa.Table.from_batches([batch.filter(pa.array(is_first))]).rename_columns(_AS_PROMPTS)
            yield from some.select(PROMPT_SCHEMA.names).cast(PROMPT_SCHEMA).to_batches()

    write_batches(path, PROMPT_SCHEMA, first_uses())


def example_columns(examples: Sequence[Example], carried: Sequence[str]) -> dict[str, list[Any]]:
    """Examples as table columns, by name."""
    prompts = [example.prompt for example in examples]
    columns: dict[str, list[Any]] = {
        "example_id": [example.example_id for example in examples],
        "prompt_id": [prompt.prompt_id for prompt in prompts],
        "origin": [example.origin for example in examples],
        "prompt": [prompt.text for prompt in prompts],
        "messages": [prompt.messages for prompt in prompts],
        "template_inputs": [prompt.template_inputs for prompt in prompts],
        "prompt_ids": [prompt.ids for prompt in prompts],
        "responses": [[response.text for response in example.responses] for example in examples],
        "response_ids": [[response.ids for response in example.responses] for example in examples],
        "form": [example.preference.form for example in examples],
        "preference": [example.preference.stored for example in examples],
        "weight": [example.weight for example in examples],
    }
    return columns | {f"{CARRIED}{name}": [example.carried.get(name) for example in examples] for name in carried}


def to_example(row: Mapping[str, Any]) -> Example:
    """A row of a table of examples as a record."""
    responses = zip(row["responses"], row["response_ids"], strict=True)
    return Example(
        example_id=row["example_id"],
        prompt=prompt_of(row),
        responses=tuple(Response(text, tuple(ids)) for text, ids in responses),
        preference=preference_of(row["form"], tuple(row["preference"])),
        weight=row["weight"],
        origin=row["origin"],
        carried={ours: row[name] for ours, name in carried_columns(list(row)).items()},
    )


def to_prompt(row: Mapping[str, Any]) -> Prompt:
    """A row of a table of prompts as a record."""
    return Prompt(row["prompt_id"], row["text"], tuple(row["ids"]), row["messages"], row["template_inputs"])


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """The prompt of a row of a table of examples; it has ``PROMPT_COLUMNS``."""
    ids = tuple(row["prompt_ids"])
    return Prompt(row["prompt_id"], row["prompt"], ids, row["messages"], row["template_inputs"])


def _write(
    path: Path | str,
    records: Iterable[Any],
    schema: pa.Schema,
    columns: Callable[[Sequence[Any]], dict[str, list[Any]]],
) -> int:
    written, remaining = 0, iter(records)

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal written
        while chunk := list(islice(remaining, CHUNK)):
            yield pa.record_batch(columns(chunk), schema=schema)
            written += len(chunk)

    write_batches(path, schema, batches())
    return written

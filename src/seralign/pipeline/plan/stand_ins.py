"""Examples to measure with, of a run that has prompts only."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice
from typing import Any, cast

import datasets
import pyarrow as pa

from seralign.config import RunConfig
from seralign.data.table import example_columns, to_prompt
from seralign.pipeline.data import Tables
from seralign.records import Example, Pair, Response
from seralign.runs.examples import EXAMPLE_SCHEMA

_MOST = 512


def measurable(config: RunConfig, tables: Tables) -> Tables:
    """Tables with pairs. Without any, the tokens of the prompts stand for responses, as long as those may be."""
    if len(tables.pairs) or config.rlhf is None:
        return tables
    prompts = [to_prompt(cast(dict[str, Any], row)) for row in islice(tables.prompts, _MOST)]
    examples = [
        Example(
            f"prompt-{number}",
            prompt,
            (Response("", tuple(islice(cycle(prompt.ids), config.rlhf.limit))),) * 2,
            Pair(),
            1.0,
        )
        for number, prompt in enumerate(prompts)
    ]
    table = pa.table(example_columns(examples, ()), schema=EXAMPLE_SCHEMA)
    return replace(tables, pairs=datasets.Dataset(table, fingerprint="stand-ins"))

"""Examples to measure with, of a run that has prompts or demonstrations only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from typing import Any, cast

import datasets
import pyarrow as pa

from seralign.config import RunConfig
from seralign.data.table import example_columns, to_example, to_prompt
from seralign.pipeline.data import Tables
from seralign.pipeline.rows import demonstrations
from seralign.records import Example, Pair, Response
from seralign.runs.examples import EXAMPLE_SCHEMA

_MOST = 512


def measurable(config: RunConfig, tables: Tables) -> Tables:
    """Tables with pairs. Without any, demonstrations stand for both responses; or the tokens of the prompts for
    responses, as long as those may be."""
    if len(tables.pairs):
        return tables
    found = _shown(tables) if config.demonstrated else _asked(tables, sampled_limit(config))
    table = pa.table(example_columns(list(found), ()), schema=EXAMPLE_SCHEMA)
    return replace(tables, pairs=datasets.Dataset(table, fingerprint="stand-ins"))


def sampled_limit(config: RunConfig) -> int:
    """Most tokens of a response that a run without pairs trains on."""
    if config.rlhf is not None:
        return config.rlhf.limit
    assert config.bootstrap is not None
    return config.bootstrap.sampling.limit


def _shown(tables: Tables) -> Iterator[Example]:
    for row in islice(demonstrations(tables), _MOST):
        own = to_example(cast(dict[str, Any], row))
        yield Example(own.example_id, own.prompt, own.responses[:1] * 2, Pair())


def _asked(tables: Tables, limit: int) -> Iterator[Example]:
    for number, row in enumerate(islice(tables.prompts, _MOST)):
        prompt = to_prompt(cast(dict[str, Any], row))
        response = Response("", tuple(islice(cycle(prompt.ids), limit)))
        yield Example(f"prompt-{number}", prompt, (response, response), Pair())

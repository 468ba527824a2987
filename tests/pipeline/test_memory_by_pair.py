"""How much memory each stage of a round takes for a pair more: numbers in arrays, and no Python objects."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

from seralign.config import SelectionConfig
from seralign.data.prepare import heldout_rows
from seralign.data.table import read_table, write_examples, write_prompts_of
from seralign.data.table_columns import training_columns
from seralign.objectives import DPO, one
from seralign.records import Example, Pair, Prompt, Response, content_id
from seralign.rewards.cached_logprobs import _first_of_equal
from seralign.rewards.ordering import ordering_of
from seralign.rewards.pairing import contrasts
from seralign.rewards.responses import Responses
from seralign.rewards.scored_pairs import scored_pairs
from seralign.rewards.selection import select
from seralign.rewards.usable import usable_responses
from seralign.training.batches import PackDataset

SIZES = (2_000, 10_000)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of pairs of each size, each pair with a prompt of its own."""
    files = []
    for size in SIZES:
        pairs = (
            Example(
                content_id(["pair", at]), Prompt(content_id(at), f"{at}", (at, 1)),
                (Response(f"{at} a", (at, 2)), Response(f"{at} b", (at, 3))), Pair(),
            )
            for at in range(size)
        )  # fmt: skip
        files.append(tmp_path_factory.mktemp("pairs") / f"{size}.arrow")
        write_examples(files[-1], pairs)
    return files


def _candidates(pairs: datasets.Dataset) -> pa.Table:
    """Two candidates of each prompt."""
    names, count = pairs.data.table["prompt_id"].combine_chunks(), len(pairs)
    rows = pa.array(np.repeat(np.arange(count), 2))
    text = pa.array([f"text {at % 2}" for at in range(2 * count)])
    index, finished = pa.array(np.tile([0, 1], count)), pa.array(np.ones(2 * count, dtype=bool))
    return pa.table({"prompt_id": names.take(rows), "index": index, "text": text, "finished": finished})


def _scored(file: Path) -> Callable[[], Any]:
    def work() -> Any:
        responses = Responses(read_table(file))
        packs = responses.packs(1000, 1000)
        return responses, _first_of_equal(responses.keys, np.sort(np.concatenate(packs)))

    return work


def _selected(file: Path) -> Callable[[], Any]:
    margins = np.random.default_rng(0).normal(size=len(read_table(file)))
    rule = SelectionConfig(rule="top_within_prompt", fraction=0.5)
    return lambda: select(scored_pairs(read_table(file), margins), rule, 0)


def _paired(file: Path) -> Callable[[], Any]:
    candidates = _candidates(read_table(file))
    rewards = np.random.default_rng(0).normal(size=len(candidates))

    def work() -> Any:
        usable, _ = usable_responses(candidates)
        return usable, contrasts(usable, rewards)

    return work


def _split(file: Path) -> Callable[[], Any]:
    def work() -> Any:
        write_prompts_of(file.with_suffix(".prompts"), read_table(file))
        return heldout_rows(read_table(file), 0.1, 0)

    return work


def _ordered(file: Path) -> Callable[[], Any]:
    values = np.random.default_rng(0).normal(size=2 * len(read_table(file)))

    def work() -> Any:
        ordering = ordering_of(read_table(file))
        return ordering.margin(values), ordering.ends

    return work


def _weighted(file: Path) -> Callable[[], Any]:
    count = len(read_table(file))

    def work() -> Any:
        parts = [read_table(file).select(np.arange(first, count, 2)) for first in (0, 1)]
        table = training_columns(datasets.concatenate_datasets(parts))
        packs = PackDataset(table, [], one("dpo", DPO()), 100)
        return packs.weights, packs.numbering.counts, packs.of_pairs

    return work


@pytest.mark.parametrize(
    ("stage", "held", "most"),
    [
        (_split, 4, 80),
        (_scored, 130, 240),
        (_selected, 15, 130),
        (_paired, 60, 220),
        (_ordered, 40, 160),
        (_weighted, 30, 80),
    ],
)
def test_memory_by_pair(stage: Callable[[Path], Callable[[], Any]], held: int, most: int, tables: list[Path]) -> None:
    """Bytes that a pair more takes of Python and numpy, of the result and at most while it is made. The lists and
    dictionaries of a string and a number each that these replace take 150 bytes and more for each of them."""
    found = []
    for file in tables:
        work = stage(file)
        tracemalloc.start()
        result = work()
        found.append(tracemalloc.get_traced_memory())
        tracemalloc.stop()
        del result
    less, more = found
    grown = [(large - small) / (SIZES[1] - SIZES[0]) for small, large in zip(less, more, strict=True)]
    assert grown[0] < held, f"{grown[0]:.0f} bytes a pair are held"
    assert grown[1] < most, f"{grown[1]:.0f} bytes a pair at most"

"""Responses to other prompts, by which KTO estimates how far the policy is from the reference (2402.01306)."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import cast

import datasets
import numpy as np
import pyarrow as pa

from seralign.data.table_columns import column_arrays, column_lengths, response_ids
from seralign.errors import ConfigError
from seralign.objectives import ObjectiveSum
from seralign.runs.streams import write_stream

# Rows that are made at once.
_TOGETHER = 10_000


def with_mismatched(
    table: datasets.Dataset,
    objective: ObjectiveSum,
    seed: int,
    max_length: int,
    source: str,
    folder: Path | None = None,
) -> datasets.Dataset:
    """The examples with a second response, which answers another prompt, if the objective needs one.

    Prompts are put in a random order, and each response is given to the prompt before its own, so that as many
    responses as possible are given once. The order depends only on the prompts and the seed, so that log-probabilities
    under the reference are computed once. The second response is cut where it would be longer than ``max_length`` with
    its prompt, and its preference is NaN. The examples are in a file that is gone when they are, and not in memory.

    Args:
        table: Examples of one response each.
        objective: What is trained.
        seed: Seed of the order.
        max_length: Tokens of prompt and response together.
        source: Configuration key of the data, for messages.
        folder: Where the file is. Default: the folder for temporary files.

    Raises:
        ConfigError: All examples have the same prompt.
    """
    if "mismatched" not in objective.needs:
        return table
    # Digests, which take less memory than the prompts.
    prompts = [hashlib.blake2b(ids.tobytes(), digest_size=16).digest() for ids in column_arrays(table, "prompt_ids")]
    partner = partners(prompts, seed)
    if partner is None:
        raise ConfigError(
            f"objective.name: {objective.name} compares with responses to other prompts, but all examples of {source} "
            "have the same prompt; give another objective, or other data"
        )
    room = np.maximum(1, max_length - column_lengths(table, "prompt_ids"))
    return _stored(_parts(table, partner, room), folder)


def _parts(table: datasets.Dataset, partner: np.ndarray, room: np.ndarray) -> Iterator[pa.Table]:
    """The rows with their second responses. In parts, because the offsets of a list of 32 bits count all tokens before
    it."""
    for start in range(0, len(table), _TOGETHER):
        places = np.arange(start, min(start + _TOGETHER, len(table)))
        own, others = (response_ids(table.select(rows.tolist()), 0) for rows in (places, partner[places]))
        cut = (ids[:most] for ids, most in zip(others, room[places].tolist(), strict=True))
        both = [ids.astype(np.int32) for pair in zip(own, cut, strict=True) for ids in pair]
        rows = cast(pa.Table, table.with_format("arrow")[start : start + len(places)])
        yield _with_second(rows, both)


def _stored(parts: Iterator[pa.Table], folder: Path | None) -> datasets.Dataset:
    """The parts as one table, memory-mapped from a file without a name."""
    descriptor, name = tempfile.mkstemp(".arrow", "examples-", folder)
    os.close(descriptor)
    try:
        first = next(parts)
        stored = write_stream(Path(name), first.schema, chain([first], parts))
        # Without a given fingerprint, datasets would pickle the whole table to compute one; it is not needed here.
        return datasets.Dataset(stored, fingerprint="mismatched")
    finally:
        Path(name).unlink()


def _with_second(rows: pa.Table, both: list[np.ndarray]) -> pa.Table:
    """Rows with two responses each, given one after the other; the preference of the second is NaN."""
    ends = np.concatenate([[0], np.cumsum([len(ids) for ids in both])]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(both)))
    pairs = pa.array(np.arange(len(rows) + 1) * 2, pa.int32())
    labels = np.array([stored[0] for stored in rows["preference"].to_pylist()])
    stored = pa.array(np.stack([labels, np.full_like(labels, np.nan)], axis=1).ravel())
    made = {
        "response_ids": pa.ListArray.from_arrays(pairs, lists),
        "preference": pa.ListArray.from_arrays(pairs, stored),
    }
    return pa.table({name: made.get(name, rows[name]) for name in rows.column_names})


def partners(prompts: list[bytes], seed: int) -> np.ndarray | None:
    """For each row one with another prompt [N], or None if there is none."""
    names, inverse, counts = np.unique(np.array(prompts, dtype=object), return_inverse=True, return_counts=True)
    if len(names) < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(names))
    place = np.argsort(order)
    rows = np.argsort(place[inverse], kind="stable")
    sizes = counts[order]
    ends = np.cumsum(sizes).repeat(sizes)
    number = np.arange(len(prompts)) - (ends - sizes.repeat(sizes))
    found = np.empty(len(prompts), dtype=np.int64)
    others = len(prompts) - sizes.repeat(sizes)
    found[rows] = rows[(ends + number % others) % len(prompts)]
    return found

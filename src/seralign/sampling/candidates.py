"""Sample a table of prompts: stored responses are reused, the others are requested from the engine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa

from seralign import distributed
from seralign.data.table import PROMPT_SCHEMA, to_prompt
from seralign.data.table_columns import column_lengths, id_column
from seralign.errors import StoreError
from seralign.policy.sampling import SamplingParams
from seralign.progress import bar
from seralign.records import Candidate
from seralign.runs.results import Results
from seralign.runs.streams import StoredRows, packed, write_stream
from seralign.sampling.base import Request, Sampler

# Stored answers, and candidates, that are held at once.
_TOGETHER, _ROWS = 64, 1000
# Keys of requests [B], 32 bytes each.
_KEY = "V32"
CANDIDATE_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("text", pa.string()),
        ("ids", pa.list_(pa.int32())),
        ("finished", pa.bool_()),
    ]
)


def sample_candidates(
    prompts: datasets.Dataset,
    sampler: Sampler,
    params: SamplingParams,
    *,
    policy: str,
    end_tokens: frozenset[int],
    seed: int,
    results: Results,
    label: str,
) -> pa.Table:
    """Sample ``params.samples`` responses to every prompt.

    Prompts of similar length are sampled together. An answer is stored as soon as it is complete, and depends only on
    its request. So a sampling that was killed requests only what is missing, and ends with the same responses for any
    number of processes.

    Args:
        prompts: Columns ``prompt_id``, ``text``, ``ids``.
        sampler: The engine of the policy.
        params: The sampling distribution.
        policy: Digest of the weights of the policy.
        end_tokens: Ids that end a response.
        seed: Seed.
        results: Stored results of the run; only the main process uses them.
        label: Text for the progress bar.

    Returns:
        Candidates in the order of the prompts: ``prompt_id``, ``index``, ``text``, ``ids``, ``finished``. Responses
        that the engine left out are missing.

    Raises:
        SeralignError: the engine failed; what it answered before is kept.
    """
    order = np.argsort(column_lengths(prompts, "ids"), kind="stable")
    batches = Batches(order, sampler.prompts_per_request)

    def requests(numbers: Iterable[int]) -> Iterator[Request]:
        for number in numbers:
            rows = prompts[batches[number].tolist()]
            columns = (rows[name] for name in PROMPT_SCHEMA.names)
            batch = (to_prompt(dict(zip(PROMPT_SCHEMA.names, row, strict=True))) for row in zip(*columns, strict=True))
            yield Request(policy, sampler.identity, tuple(batch), params, end_tokens, seed)

    keys, todo, known = np.zeros(0, _KEY), np.zeros(0, np.int64), 0
    if distributed.is_main():
        keys = packed((one.key for one in requests(range(len(batches)))), _KEY)
        is_known = np.zeros(len(keys), dtype=bool)
        for start in range(0, len(keys), _TOGETHER):
            part: list[bytes] = keys[start : start + _TOGETHER].tolist()
            found = {key: len(rows) for key, rows in results.get(part)}
            is_known[start : start + _TOGETHER] = [key in found for key in part]
            known += sum(found.values())
        todo = np.flatnonzero(~is_known)
    todo = distributed.broadcast(todo)
    world = distributed.world_size() if sampler.in_every_process else 1
    mine = todo[distributed.rank() :: world] if distributed.rank() < world else todo[:0]
    with bar(label, len(prompts) * params.samples, "response") as line:
        line.at(known)
        answers = iter(sampler.sample(requests(mine.tolist())))
        for _ in range(-(-len(todo) // world)):
            for answer in distributed.gather(_next(answers)):
                if answer is None:
                    continue
                key, rows = answer
                if distributed.is_main():
                    results.put({key: rows})
                line.advance(len(rows))
        next(answers, None)  # the engine comes to its end
    table = CANDIDATE_SCHEMA.empty_table()
    if len(keys):
        table = _in_order(id_column(prompts, "prompt_id"), batches, keys, results)
    return distributed.broadcast(table)


@dataclass(frozen=True)
class Batches:
    """The prompts of each request: ``size`` of the rows of the prompts in the order in which they are sampled."""

    order: np.ndarray
    size: int

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __getitem__(self, number: int) -> np.ndarray:
        return self.order[number * self.size : (number + 1) * self.size]


def _in_order(names: pa.ChunkedArray, batches: Batches, keys: np.ndarray, results: Results) -> pa.Table:
    """All stored answers, memory-mapped, in the order of the prompts; a few of them are in memory at a time."""
    places = [np.empty(0, np.int64)]

    def answers() -> Iterator[pa.Table]:
        for start in range(0, len(keys), _TOGETHER):
            part: list[bytes] = keys[start : start + _TOGETHER].tolist()
            found, tables, own = dict(results.get(part)), [], []
            for number, key in enumerate(part, start):
                if key not in found:
                    raise StoreError(f"{results.path}: a stored answer was damaged; give the same command again")
                tables.append(_table(found[key]))
                own.append(_places(tables[-1], batches[number], names))
            places.append(np.concatenate(own))
            yield pa.concat_tables(tables)

    with tempfile.TemporaryDirectory(prefix="candidates-", dir=results.path.parent) as scratch:
        stored = write_stream(Path(scratch) / "stored.arrow", CANDIDATE_SCHEMA, answers())
        order = np.argsort(np.concatenate(places), kind="stable")
        read = StoredRows(stored)
        parts = (read.take(order[start : start + _ROWS]) for start in range(0, len(order), _ROWS))
        return write_stream(Path(scratch) / "ordered.arrow", CANDIDATE_SCHEMA, parts)


def candidates_of(table: pa.Table) -> list[Candidate]:
    """Rows of a table of candidates as records."""
    return [Candidate(**(row | {"ids": tuple(row["ids"])})) for row in table.select(CANDIDATE_SCHEMA.names).to_pylist()]


def _next(answers: Iterator[tuple[Request, list[Candidate]]]) -> tuple[bytes, list[Sequence[object]]] | None:
    answer = next(answers, None)
    if answer is None:
        return None
    request, candidates = answer
    return request.key, [[getattr(one, name) for name in CANDIDATE_SCHEMA.names] for one in candidates]


def _places(answer: pa.Table, rows: np.ndarray, names: pa.ChunkedArray) -> np.ndarray:
    """The row of its prompt for each candidate of an answer, which is in order; some candidates may be missing."""
    found, at, last = [], 0, -1
    own = [names[row].as_py() for row in rows.tolist()]
    for name, index in zip(answer["prompt_id"].to_pylist(), answer["index"].to_pylist(), strict=True):
        # The same prompt may be there twice: then the index begins again.
        at = at + (index <= last)
        while own[at] != name:
            at += 1
        found.append(rows[at])
        last = index
    return np.array(found, np.int64)


def _table(rows: list[Sequence[object]]) -> pa.Table:
    """The candidates of a request as a table."""
    columns = zip(*rows, strict=True) if rows else [[] for _ in CANDIDATE_SCHEMA.names]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, CANDIDATE_SCHEMA, strict=True)],
        schema=CANDIDATE_SCHEMA,
    )

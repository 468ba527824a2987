"""The sampled responses to each prompt that can form pairs. Pure."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from seralign.runs.cache import made_keys, numbered_keys
from seralign.runs.streams import StoredRows

# Candidates whose texts are held at once.
_TEXTS = 1000


@dataclass(frozen=True, eq=False)
class Usable(Sequence[np.ndarray]):
    """The responses that can form pairs: for each of P prompts an array of rows of the candidates.

    Args:
        rows: Rows of the responses of each prompt, in order of their index, one prompt after the other [U].
        starts: Where the rows of each prompt begin in ``rows``, and their number at the end [P + 1].
        prompt_ids: The prompt of each candidate [N].
    """

    rows: np.ndarray
    starts: np.ndarray
    prompt_ids: pa.ChunkedArray

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each prompt's id with its rows."""
        return ((self.prompt_ids[int(rows[0])].as_py(), rows) for rows in self)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        return self.rows[self.starts[at] : self.starts[at + 1]]


def usable_responses(candidates: pa.Table) -> tuple[Usable, Counter[str]]:
    """The responses that can form pairs, by prompt; prompts with fewer than two are left out.

    Unfinished, empty and repeated responses form no pair.

    Args:
        candidates: All candidates, in any order: ``prompt_id``, ``index``, ``text``, ``finished``.

    Returns:
        The responses by prompt, in order of the first candidate of each, and counts of what was left out by reason:
        ``unfinished``, ``empty``, ``repeated`` responses, ``prompts without two responses``.
    """
    prompts = _prompt_numbers(candidates["prompt_id"])
    order = np.lexsort((candidates["index"].to_numpy(), prompts)).astype(np.int32)
    is_usable, left_out = np.zeros(len(order), dtype=bool), Counter[str]()
    read, last, seen = StoredRows(candidates.select(["text", "finished"])), -1, set[str]()
    for start in range(0, len(order), _TEXTS):
        rows = order[start : start + _TEXTS]
        some = read.take(rows)
        columns = (prompts[rows].tolist(), some["text"].to_pylist(), some["finished"].to_pylist())
        for at, (prompt, given, finished) in enumerate(zip(*columns, strict=True), start):
            if prompt != last:
                last, seen = prompt, set()
            text = given.strip()
            if not finished:
                left_out["unfinished"] += 1
            elif not text:
                left_out["empty"] += 1
            elif text in seen:
                left_out["repeated"] += 1
            else:
                seen.add(text)
                is_usable[at] = True
    found = order[is_usable]
    counts = np.bincount(prompts[found], minlength=int(prompts.max(initial=-1)) + 1)
    enough = counts >= 2
    if not enough.all():
        left_out["prompts without two responses"] += int((~enough).sum())
    starts = np.concatenate([[0], np.cumsum(counts[enough])])
    return Usable(found[enough[prompts[found]]], starts, candidates["prompt_id"]), left_out


def _prompt_numbers(prompt_ids: pa.ChunkedArray) -> np.ndarray:
    """The number of each candidate's prompt in order of first use [N]."""
    starts, last = array("q"), None

    def names() -> Iterator[bytes]:
        nonlocal last
        at = 0
        for chunk in prompt_ids.chunks:
            for name in chunk.to_pylist():
                if name != last:
                    last = name
                    starts.append(at)
                    yield hashlib.blake2b(name.encode(), digest_size=16).digest()
                at += 1

    numbers, _ = numbered_keys(made_keys(names()))
    return np.repeat(numbers, np.diff(np.array(starts), append=len(prompt_ids)))

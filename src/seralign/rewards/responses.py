"""The responses of a table, and their division into forward passes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import datasets
import numpy as np

from seralign.data.numbering import Numbering
from seralign.data.table_columns import all_lengths, column_arrays, column_lengths, numbered_responses, token_rows
from seralign.policy.packs import Sizes, fill
from seralign.runs.cache import made_keys, numbered_keys, response_key


@dataclass(frozen=True)
class Responses:
    """The responses of a table of examples, numbered as in ``seralign.data.numbering.Numbering``.

    Holds only lengths and keys in memory, and computes each once.

    Args:
        table: Has ``prompt_ids`` and ``response_ids``.
        reads: ``all`` responses of each example, or only the ``first`` one.
    """

    table: datasets.Dataset
    reads: Literal["all", "first"] = "all"

    @cached_property
    def numbering(self) -> Numbering:
        """The numbering of the responses."""
        return numbered_responses(self.table, self.reads)

    def __len__(self) -> int:
        return len(self.numbering)

    def sequences(self, numbers: np.ndarray) -> list[tuple[list[int], list[int]]]:
        """(prompt ids, response ids) of the responses with these numbers."""
        rows, places = self.numbering.rows[numbers], self.numbering.places[numbers]
        different, which = np.unique(rows, return_inverse=True)
        found = self._tokens[different.tolist()]
        prompts, responses = found["prompt_ids"], found["response_ids"]
        at = zip(which.tolist(), places.tolist(), strict=True)
        return [(prompts[row], responses[row][place]) for row, place in at]

    @cached_property
    def keys(self) -> np.ndarray:
        """[R] key of each response and its prompt, of type ``seralign.runs.cache.KEY``."""
        by_row = made_keys(
            response_key(prompt, response)
            for (prompt, responses), count in zip(token_rows(self.table), self.numbering.counts, strict=True)
            for response in responses[:count]
        )
        found = np.empty_like(by_row)
        found[self.numbering.by_row] = by_row
        return found

    @cached_property
    def lengths(self) -> np.ndarray:
        """[R] tokens of each response, int32."""
        return all_lengths(self.table, self.numbering).astype(np.int32)

    @cached_property
    def whole_lengths(self) -> np.ndarray:
        """[R] tokens of each response with its prompt, int32."""
        return column_lengths(self.table, "prompt_ids").astype(np.int32)[self.numbering.rows] + self.lengths

    def packs(self, tokens_per_pack: int, packed_length: int) -> list[np.ndarray]:
        """``plan_scoring`` of these responses, cached for each budget."""
        budget = (tokens_per_pack, packed_length)
        if budget not in self._plans:
            self._plans[budget] = plan_scoring(self, *budget)
        return self._plans[budget]

    @cached_property
    def _plans(self) -> dict[tuple[int, int], list[np.ndarray]]:
        return {}

    @cached_property
    def _tokens(self) -> datasets.Dataset:
        return self.table.select_columns(["prompt_ids", "response_ids"])

    @cached_property
    def prompts(self) -> np.ndarray:
        """[R] number of each response's prompt among the distinct prompts."""
        keys = made_keys(response_key(ids, ()) for ids in column_arrays(self.table, "prompt_ids"))
        return numbered_keys(keys)[0][self.numbering.rows]


def plan_scoring(responses: Responses, tokens_per_pack: int, packed_length: int) -> list[np.ndarray]:
    """Packs that cover each distinct response once, with the responses to a prompt together where possible.

    Args:
        responses: What is scored.
        tokens_per_pack: Maximum number of tokens of a pack, including padding.
        packed_length: Longest sequence that the model accepts in packed rows.

    Returns:
        Numbers of the responses of each pack, longest first.
    """
    _, numbers = numbered_keys(responses.keys)
    if not len(numbers):
        return []
    whole = responses.whole_lengths[numbers]
    # Responses that do not fit into a packed row cannot share a prompt.
    alone = responses.prompts.max() + 1 + np.arange(len(numbers), dtype=np.int32)
    group = np.where(whole <= packed_length, responses.prompts[numbers], alone)
    order = np.argsort(group, kind="stable")
    numbers, whole, own = numbers[order], whole[order], responses.lengths[numbers[order]]
    starts = _group_starts(group[order], whole - own, own, tokens_per_pack)
    groups = Sizes(
        packed=np.add.reduceat(own, starts) + (whole - own)[starts],
        longest=np.maximum.reduceat(whole, starts),
        sequences=np.diff(starts, append=len(numbers)),
    )
    packs = fill(np.arange(len(starts)), groups, tokens_per_pack, packed_length)
    return [numbers[_members(starts[pack], groups.sequences[pack])] for pack in packs]


def _group_starts(prompt: np.ndarray, shared: np.ndarray, own: np.ndarray, budget: int) -> np.ndarray:
    """Where new groups begin: at each new prompt, and where another response would exceed the budget."""
    starts = np.flatnonzero(np.diff(prompt, prepend=np.int32(-1)))
    ends = np.append(starts[1:], len(prompt))
    large = np.add.reduceat(own, starts) + shared[starts] > budget
    more = []
    for start, end in zip(starts[large].tolist(), ends[large].tolist(), strict=True):
        used = shared[start] + own[start]
        for at in range(start + 1, end):
            if used + own[at] > budget:
                more.append(at)
                used = shared[at]
            used += own[at]
    return np.sort(np.concatenate([starts, np.array(more, dtype=np.int64)]))


def _members(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers from each start on, so many of each, one group after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())

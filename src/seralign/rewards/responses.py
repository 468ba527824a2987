"""The responses of a table, and which of them go through a model together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import datasets
import numpy as np

from seralign.data.table import column_arrays, column_lengths
from seralign.policy.packs import Sizes, fill
from seralign.runs.cache import response_key


@dataclass(frozen=True)
class Responses:
    """The responses of a table of examples, or of one of candidates.

    They are numbered place by place: the first responses of all rows, in the order of the rows, then the second ones,
    and so on. Nothing is held in memory but lengths and keys, each made once.

    Args:
        table: Examples; or candidates with their prompts, which have one response a row.
        reads: ``all`` responses, or the ``first`` of each row alone.
    """

    table: datasets.Dataset
    reads: Literal["all", "first"] = "all"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that hold them."""
        if "ids" in self.table.column_names:
            return ("ids",)
        return ("chosen_ids", "rejected_ids")[: 1 if self.reads == "first" else 2]

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the responses of some rows, those of the first place first."""
        return np.concatenate([rows + place * len(self.table) for place in range(len(self.columns))])

    def __len__(self) -> int:
        return len(self.table) * len(self.columns)

    def sequences(self, numbers: np.ndarray) -> list[tuple[list[int], list[int]]]:
        """(prompt ids, response ids) of the numbered responses."""
        found = []
        for column, (name, table) in enumerate(self._tables.items()):
            mine = np.flatnonzero(numbers // len(self.table) == column)
            if len(mine):
                rows = table[(numbers[mine] % len(self.table)).tolist()]
                pairs = zip(rows["prompt_ids"], rows[name], strict=True)
                found += list(zip(mine.tolist(), pairs, strict=True))
        return [sequence for _, sequence in sorted(found, key=lambda item: item[0])]

    @cached_property
    def keys(self) -> list[bytes]:
        """[N] identity of every response to its prompt."""
        return [
            response_key(prompt, response)
            for name in self.columns
            for prompt, response in zip(
                column_arrays(self.table, "prompt_ids"), column_arrays(self.table, name), strict=True
            )
        ]

    @cached_property
    def lengths(self) -> np.ndarray:
        """[N] tokens of each response."""
        return np.concatenate([column_lengths(self.table, name) for name in self.columns])

    @cached_property
    def whole_lengths(self) -> np.ndarray:
        """[N] tokens of each response together with its prompt."""
        return np.tile(column_lengths(self.table, "prompt_ids"), len(self.columns)) + self.lengths

    def packs(self, tokens_per_pack: int, packed_length: int) -> list[np.ndarray]:
        """``plan_scoring`` of these responses; for the same budget they are planned once, whoever scores them."""
        budget = (tokens_per_pack, packed_length)
        if budget not in self._plans:
            self._plans[budget] = plan_scoring(self, *budget)
        return self._plans[budget]

    @cached_property
    def _plans(self) -> dict[tuple[int, int], list[np.ndarray]]:
        return {}

    @cached_property
    def _tables(self) -> dict[str, datasets.Dataset]:
        return {name: self.table.select_columns(["prompt_ids", name]) for name in self.columns}

    @cached_property
    def prompts(self) -> np.ndarray:
        """[N] number of each response's prompt among the distinct prompts."""
        digests = [response_key(ids, ()) for ids in column_arrays(self.table, "prompt_ids")]
        numbers = {digest: number for number, digest in enumerate(dict.fromkeys(digests))}
        return np.tile(np.array([numbers[digest] for digest in digests], dtype=np.int64), len(self.columns))


def plan_scoring(responses: Responses, tokens_per_pack: int, packed_length: int) -> list[np.ndarray]:
    """Packs of responses that cover each distinct one once, the responses to a prompt together where they can be.

    Args:
        responses: What is scored.
        tokens_per_pack: Most tokens of a pack, padding counted.
        packed_length: The longest sequence that the model takes in packed rows.

    Returns:
        Numbers of the responses of each pack, longest first.
    """
    first_of: dict[bytes, int] = {}
    for number, key in enumerate(responses.keys):
        first_of.setdefault(key, number)
    numbers = np.array(list(first_of.values()), dtype=np.int64)
    if not len(numbers):
        return []
    whole = responses.whole_lengths[numbers]
    # What cannot share a packed row shares no prompt.
    alone = responses.prompts.max() + 1 + np.arange(len(numbers))
    group = np.where(whole <= packed_length, responses.prompts[numbers], alone)
    order = np.argsort(group, kind="stable")
    numbers, whole, own = numbers[order], whole[order], responses.lengths[numbers[order]]
    starts = _group_starts(group[order], whole - own, own, tokens_per_pack)
    groups = Sizes(
        packed=np.add.reduceat(own, starts) + (whole - own)[starts],
        longest=np.maximum.reduceat(whole, starts),
        sequences=np.diff([*starts, len(numbers)]),
    )
    members = np.split(numbers, starts[1:])
    packs = fill(np.arange(len(starts)), groups, tokens_per_pack, packed_length)
    return [np.concatenate([members[at] for at in pack]) for pack in packs]


def _group_starts(prompt: np.ndarray, shared: np.ndarray, own: np.ndarray, budget: int) -> list[int]:
    """Where a new group begins: at another prompt, and where the responses to one would burst the budget."""
    starts, before, used = [], -1, 0
    for at, (number, prompt_tokens, tokens) in enumerate(
        zip(prompt.tolist(), shared.tolist(), own.tolist(), strict=True)
    ):
        if number != before or used + tokens > budget:
            starts.append(at)
            before, used = number, prompt_tokens
        used += tokens
    return starts

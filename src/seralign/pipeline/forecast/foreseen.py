"""Responses that do not exist yet: their lengths, their packs, and what the log-probability cache will have.

Responses that are in the data are known to the token. Of those that a policy is still to sample, only the prompt is
known: they are given a length, and keys of their own.

Legend: N responses, B forward passes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import datasets
import numpy as np

from seralign.data.numbering import Numbering
from seralign.data.table_columns import column_lengths
from seralign.policy.packs import Sizes
from seralign.rewards.responses import Responses
from seralign.runs.cache import made_keys
from seralign.training.batches import row_sizes


@dataclass(frozen=True)
class Lengths:
    """Tokens of responses that are not sampled yet: the mean, and the longest of a batch."""

    mean: int
    longest: int

    def within(self, limit: int) -> Lengths:
        """The same, where sampling ends at ``limit`` tokens."""
        return Lengths(min(self.mean, limit), min(self.longest, limit))


@dataclass(frozen=True)
class Foreseen:
    """Responses to score, by the names under which ``seralign.rewards.responses.plan_scoring`` reads them, [N] each.
    ``keys`` are of type ``seralign.runs.cache.KEY``."""

    keys: np.ndarray
    lengths: np.ndarray
    whole_lengths: np.ndarray
    prompts: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def as_responses(self) -> Responses:
        """Itself, for functions that ask for nothing but lengths, prompts and keys."""
        return cast(Responses, self)

    def tokens(self, numbers: np.ndarray, longest: int) -> int:
        """Tokens of one forward pass over some responses; padded where one is longer than ``longest``."""
        width = int(self.whole_lengths[numbers].max())
        if width > longest:
            return width * len(numbers)
        _, first = np.unique(self.prompts[numbers], return_index=True)
        shared = self.whole_lengths[numbers][first] - self.lengths[numbers][first]
        return int(self.lengths[numbers].sum() + shared.sum())


@dataclass(frozen=True)
class TrainingRows:
    """Examples to train on: their sizes, tokens of their prompts [N], and keys of the responses that are read, by their
    number [R] (see ``seralign.data.numbering``)."""

    sizes: Sizes
    prompts: np.ndarray
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def numbering(self) -> Numbering:
        """Of the responses that are read."""
        return Numbering(self.sizes.sequences)

    def rows_of(self, pack: np.ndarray) -> np.ndarray:
        """The rows of a pack of responses, which has all responses of each."""
        return pack[self.numbering.places[pack] == 0]

    def tokens(self, rows: np.ndarray, longest: int) -> int:
        """Tokens of one forward pass over some rows; padded where a sequence is longer than ``longest``."""
        width = int(self.sizes.longest[rows].max())
        whole = self.sizes.packed[rows].sum() if width <= longest else width * self.sizes.sequences[rows].sum()
        return int(whole)

    def largest(self, longest: int) -> int:
        """Tokens of the largest row alone in a forward pass."""
        sizes = self.sizes
        return int(np.where(sizes.longest <= longest, sizes.packed, sizes.longest * sizes.sequences).max())

    def apart(self, rows: np.ndarray) -> int:
        """Tokens of some rows where each response is given its prompt and nothing is padded."""
        sizes = self.sizes
        return int((sizes.packed[rows] + (sizes.sequences[rows] - 1) * self.prompts[rows]).sum())


def foreseen(table: datasets.Dataset, reads: Literal["all", "first"] = "all") -> Foreseen:
    """The responses of a table of examples."""
    found = Responses(table, reads)
    return Foreseen(found.keys, found.lengths, found.whole_lengths, found.prompts)


def sampled(name: str, prompts: datasets.Dataset, samples: int, length: int) -> Foreseen:
    """``samples`` responses of ``length`` tokens to each prompt, the responses to a prompt one after the other."""
    numbers = np.repeat(np.arange(len(prompts)), samples)
    lengths = np.full(len(numbers), length)
    whole = np.repeat(column_lengths(prompts, "ids"), samples) + lengths
    return Foreseen(own_keys(name, len(numbers)), lengths, whole, numbers)


def own_keys(name: str, count: int) -> np.ndarray:
    """Keys [count] that nothing else has, for responses that are not sampled yet."""
    return made_keys(hashlib.blake2b(f"{name}:{at}".encode(), digest_size=16).digest() for at in range(count))


def table_rows(table: datasets.Dataset, reads: Literal["all", "first"]) -> TrainingRows:
    """All rows of a table."""
    return TrainingRows(row_sizes(table, reads), column_lengths(table, "prompt_ids"), foreseen(table, reads).keys)


def some_rows(rows: TrainingRows, chosen: np.ndarray) -> TrainingRows:
    """The rows with these numbers."""
    sizes = Sizes(*(column[chosen] for column in _columns(rows.sizes)))
    return TrainingRows(sizes, rows.prompts[chosen], rows.keys[rows.numbering.of_rows(chosen)])


def made_rows(candidates: Foreseen, samples: int, chosen: np.ndarray, responses: int) -> TrainingRows:
    """Pairs or rankings of so many of the candidates of each of some prompts."""
    first = chosen * samples
    lengths, shared = candidates.lengths[first], (candidates.whole_lengths - candidates.lengths)[first]
    sizes = Sizes(shared + responses * lengths, shared + lengths, np.full_like(shared, responses))
    numbers = np.concatenate([first + place for place in range(responses)])
    return TrainingRows(sizes, shared, candidates.keys[numbers])


def joined(own: TrainingRows, made: TrainingRows) -> TrainingRows:
    """Two tables, one after the other."""
    columns = zip(_columns(own.sizes), _columns(made.sizes), strict=True)
    keys = np.concatenate([own.keys, made.keys])
    # A key belongs to a place and a row, and both tables have theirs in this order.
    places = np.concatenate([own.numbering.places, made.numbering.places])
    return TrainingRows(
        Sizes(*(np.concatenate(both) for both in columns)),
        np.concatenate([own.prompts, made.prompts]),
        keys[np.argsort(places, kind="stable")],
    )


class Cache:
    """What the log-probability cache will have: the keys of responses, by policy."""

    def __init__(self) -> None:
        self._known: defaultdict[str, set[bytes]] = defaultdict(set)
        self._scored: defaultdict[str, set[bytes]] = defaultdict(set)
        self._exact = 0

    def __len__(self) -> int:
        """Rows of the cache: a response has one, and one more for each pack in which it is scored exactly."""
        return sum(map(len, self._scored.values())) + self._exact

    def missing(
        self, policy: str, keys: np.ndarray, packs: Sequence[np.ndarray], *, exact: bool = False
    ) -> list[np.ndarray]:
        """The packs that ``seralign.rewards.cached_logprobs.logps`` will compute, which are known from then on."""
        known = self._known[policy]
        names = [_company(keys, pack) if exact else set(keys[pack].tolist()) for pack in packs]
        todo = [place for place, own in enumerate(names) if not own <= known]
        for place in todo:
            scored = set[bytes](keys[packs[place]].tolist())
            known |= names[place] | scored
            self._scored[policy] |= scored
            self._exact += len(packs[place]) if exact else 0
        return [packs[place] for place in todo]


def _company(keys: np.ndarray, pack: np.ndarray) -> set[bytes]:
    return {hashlib.blake2b(keys[pack].tobytes(), digest_size=16).digest()}


def _columns(sizes: Sizes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sizes.packed, sizes.longest, sizes.sequences

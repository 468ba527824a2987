"""From a source to a table: rows read, tokenized and counted, a chunk at a time.

Memory stays flat but for about 300 bytes a row: the identities already taken, with the row that took each.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from datasets import Dataset

from seralign.config import SourceConfig
from seralign.data.columns import Row, listed_names
from seralign.data.content import Content, Example
from seralign.data.formats import read_demonstration, read_pair, read_prompt
from seralign.data.place import Reading, reading
from seralign.data.raw import Drop, RawDemonstration, RawPair, RawPrompt
from seralign.data.sources import describe, load_rows
from seralign.data.table import CHUNK, read_table, write_pairs, write_prompts
from seralign.data.tokens import Encoded, Encoder
from seralign.errors import DataError
from seralign.records import OFFLINE, Pair, Prompt, content_id
from seralign.runs.figures import Lengths, SourceFigures

SWAPPED = "swapped"
DUPLICATE = "duplicate"
PLAIN_ON_CHAT = (
    "the tokenizer has a chat template that plain text does not use (data.as_chat: true makes conversations of it)"
)

Raw = TypeVar("Raw", RawPair, RawDemonstration, RawPrompt)
Labelled = TypeVar("Labelled", RawPair, RawDemonstration)


def prepare_pairs(source: SourceConfig, encoder: Encoder, path: Path | str, key: str) -> tuple[Dataset, SourceFigures]:
    """Write a source's pairs, tokenized, as an Arrow stream at ``path``; returns it memory-mapped, and the counts.

    A pair without an identity of its own gets the digest of its content, and ``-2``, ``-3`` … after it where the
    same content comes again (noted as duplicate, kept).

    Args:
        source: Where the rows are.
        encoder: Tokenizer and limits.
        path: File to write; it is there in part while this runs.
        key: Configuration key of the source, for messages.

    Raises:
        DataError: The source cannot be read, a row is no pair, an identity comes twice, or no row can be used.
    """
    return _prepare(source, encoder, path, key, read_pair, lambda raw: (raw.p, [SWAPPED] * raw.swapped))


def prepare_demonstrations(
    source: SourceConfig, encoder: Encoder, path: Path | str, key: str
) -> tuple[Dataset, SourceFigures]:
    """Write a source's demonstrations as pairs whose rejected response is empty; as ``prepare_pairs``."""
    return _prepare(source, encoder, path, key, read_demonstration, lambda _: (1.0, []))


def prepare_prompts(
    source: SourceConfig, encoder: Encoder, path: Path | str, key: str
) -> tuple[Dataset, SourceFigures]:
    """Write a source's different prompts; a repeated one is dropped and counted. As ``prepare_pairs``."""
    tally = _Tally(describe(source), has_template=encoder.tokenizer.chat_template is not None)

    def prompts() -> Iterator[Prompt]:
        seen: set[str] = set()
        for raw, encoded in _encode(_rows(source, key), tally, read_prompt, encoder, reading(encoder.data, key)):
            if isinstance(encoded, str):
                tally.drop(encoded)
                continue
            prompt_id = content_id(encoded.prompt_ids)
            if prompt_id in seen:
                tally.drop(DUPLICATE)
                continue
            seen.add(prompt_id)
            tally.keep(raw, encoded.notes, encoded, 1.0)
            yield Prompt(prompt_id, encoded.prompt, encoded.prompt_ids)

    write_prompts(path, prompts())
    return read_table(path), tally.report()


def split_heldout(pairs: Dataset, fraction: float, seed: int) -> tuple[list[str], list[str]]:
    """Pair ids to train on and pair ids held out, each in the table's order, no prompt on both sides.

    The prompts held out are those whose digest with the seed is smallest, so the order of the rows changes nothing.
    At least one is held out and at least one is not, where there are two and ``fraction`` is not 0.
    """
    prompts = pairs.unique("prompt_id")
    size = min(max(1, round(fraction * len(prompts))), len(prompts) - 1) if fraction > 0 else 0
    ranked = sorted(prompts, key=lambda prompt: hashlib.sha256(f"{seed}:{prompt}".encode()).digest())
    heldout = set(ranked[:size])
    sides: tuple[list[str], list[str]] = ([], [])
    for pair_id, prompt_id in zip(pairs["pair_id"], pairs["prompt_id"], strict=True):
        sides[prompt_id in heldout].append(pair_id)
    return sides


def _prepare(
    source: SourceConfig,
    encoder: Encoder,
    path: Path | str,
    key: str,
    read: Callable[[Row, str, Reading], Labelled | Drop],
    label: Callable[[Labelled], tuple[float, list[str]]],
) -> tuple[Dataset, SourceFigures]:
    """Pairs and demonstrations alike; ``label`` gives a row's p and what is noted of it."""
    tally = _Tally(describe(source), has_template=encoder.tokenizer.chat_template is not None)

    def pairs() -> Iterator[Pair]:
        identities = _Identities()
        for raw, encoded in _encode(_rows(source, key), tally, read, encoder, reading(encoder.data, key)):
            pair_id, repeated = identities.take(raw)
            if isinstance(encoded, str):
                tally.drop(encoded)
                continue
            p, notes = label(raw)
            tally.keep(raw, [*encoded.notes, *notes, *([DUPLICATE] * repeated)], encoded, p)
            yield _pair(pair_id, encoded, p, raw.weight)

    write_pairs(path, pairs())
    return read_table(path), tally.report()


def _rows(source: SourceConfig, key: str) -> Iterator[list[tuple[Row, str]]]:
    """Rows in chunks, each with its place."""
    table = load_rows(source, key)
    # A row without a prompt, where others have one, has lost it: its answers are not looked through for another.
    absent = {"prompt": None} if "prompt" in table.column_names else {}
    rows = ((absent | row, where) for row, where in table.located())
    while chunk := list(islice(rows, CHUNK)):
        yield cast(list[tuple[Row, str]], chunk)


def _encode(
    chunks: Iterable[list[tuple[Row, str]]],
    tally: _Tally,
    read: Callable[[Row, str, Reading], Raw | Drop],
    encoder: Encoder,
    how: Reading,
) -> Iterator[tuple[Raw, Encoded | str]]:
    for chunk in chunks:
        raws: list[Raw] = []
        for row, where in chunk:
            raw = read(row, where, how)
            tally.unread.update(dict.fromkeys(raw.unread))
            if isinstance(raw, Drop):
                tally.drop(raw.reason)
            else:
                raws.append(raw)
        yield from zip(raws, encoder.encode([_example(raw) for raw in raws]), strict=True)


def _example(raw: RawPair | RawDemonstration | RawPrompt) -> Example:
    responses: tuple[Content, ...] = ()
    if isinstance(raw, RawPair):
        responses = raw.chosen, raw.rejected
    elif isinstance(raw, RawDemonstration):
        responses = (raw.response,)
    return Example(raw.prompt, responses, raw.where, raw.inputs)


def _pair(pair_id: str, encoded: Encoded, p: float, weight: float) -> Pair:
    texts, ids = (*encoded.responses, ""), (*encoded.response_ids, ())
    return Pair(
        pair_id=pair_id,
        prompt_id=content_id(encoded.prompt_ids),
        origin=OFFLINE,
        prompt=encoded.prompt,
        chosen=texts[0],
        rejected=texts[1],
        prompt_ids=encoded.prompt_ids,
        chosen_ids=ids[0],
        rejected_ids=ids[1],
        p=p,
        weight=weight,
    )


class _Identities:
    """The identities taken so far, with the row that took each."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def take(self, raw: RawPair | RawDemonstration) -> tuple[str, bool]:
        """The row's identity, made unique if it is a digest; and whether the same content came before."""
        pair_id, number = raw.pair_id, 1
        if raw.named and pair_id in self._taken:
            raise DataError(f"{raw.where}: pair_id {pair_id!r} is taken by {self._taken[pair_id]}; it must be unique")
        while pair_id in self._taken:
            number += 1
            pair_id = f"{raw.pair_id}-{number}"
        self._taken[pair_id] = raw.where
        return pair_id, number > 1


@dataclass(slots=True)
class _Tally:
    """Counts that grow while rows pass."""

    source: str
    has_template: bool
    kept: int = 0
    soft: int = 0
    plain: int = 0
    unread: dict[str, None] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, Counter[int]] = field(default_factory=dict)

    def drop(self, reason: str) -> None:
        self.dropped[reason] += 1

    def keep(
        self, raw: RawPair | RawDemonstration | RawPrompt, notes: Iterable[str], encoded: Encoded, p: float
    ) -> None:
        self.kept += 1
        self.soft += p < 1.0
        self.plain += isinstance(raw.prompt, str)
        self.noted.update((*raw.notes, *notes))
        names = ("prompt", "chosen", "rejected")
        for name, ids in zip(names, (encoded.prompt_ids, *encoded.response_ids), strict=False):
            self.lengths.setdefault(name, Counter())[len(ids)] += 1

    def report(self) -> SourceFigures:
        read = self.kept + self.dropped.total()
        if not self.kept:
            counts = ", ".join(f"{reason} {count}" for reason, count in self.dropped.most_common())
            unread = f"; columns not read: {listed_names(self.unread)}" if self.unread else ""
            raise DataError(f"{self.source}: none of its {read} rows can be used: {counts}{unread}")
        return SourceFigures(
            source=self.source,
            read=read,
            kept=self.kept,
            dropped=dict(self.dropped.most_common()),
            noted=dict(self.noted.most_common()),
            lengths={name: _summary(counts) for name, counts in self.lengths.items()},
            soft=self.soft / self.kept,
            unread=tuple(self.unread),
            remarks=(PLAIN_ON_CHAT,) if self.plain and self.has_template else (),
        )


def _summary(counts: Counter[int]) -> Lengths:
    lengths = np.repeat(sorted(counts), [counts[length] for length in sorted(counts)])
    return Lengths(
        min=int(lengths[0]),
        median=float(np.median(lengths)),
        p95=float(np.quantile(lengths, 0.95)),
        max=int(lengths[-1]),
    )

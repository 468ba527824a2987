"""Reads, tokenizes and counts a source's rows in chunks and writes them to a table.

Memory does not grow with the rows: the ids used so far, and the rows that use them, are on the disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from datasets import Dataset

from seralign.config import SourceConfig
from seralign.data.carried import NONE, carried_values, check_kept, kept_columns
from seralign.data.columns import Row
from seralign.data.content import Unencoded, is_chat
from seralign.data.first_uses import FirstUses
from seralign.data.formats import read_demonstration, read_example, read_prompt
from seralign.data.kinds import OneKind
from seralign.data.place import Reading, reading
from seralign.data.raw import Drop, RawExample, RawPrompt
from seralign.data.sources import describe, load_rows
from seralign.data.table import CHUNK, read_table, write_examples, write_prompts
from seralign.data.table_columns import column_values
from seralign.data.tally import Tally
from seralign.data.templates import conversation
from seralign.data.tokens import PROMPT_CHARACTERS, RESPONSE_CHARACTERS, Encoded, Encoder
from seralign.data.trees import NO_RANK
from seralign.errors import DataError
from seralign.records import Example, Prompt, Response, content_id
from seralign.runs.data_figures import SourceFigures
from seralign.runs.streams import packed

DUPLICATE = "duplicate"
# Dropped characters that are named.
_SHOWN = 5

Raw = TypeVar("Raw", RawExample, RawPrompt)


def prepare_pairs(source: SourceConfig, encoder: Encoder, path: Path | str, key: str) -> tuple[Dataset, SourceFigures]:
    """Write a source's examples, tokenized, to an Arrow stream at ``path``; return it memory-mapped, and the counts.

    They are pairs, or have other forms of preference. One without an id gets the digest of its content. If the same
    content occurs again, its id gets the suffix ``-2``, ``-3`` …, and the example is kept and noted as a duplicate.

    Args:
        source: Where the rows are.
        encoder: Tokenizer and limits.
        path: File to write; incomplete until this returns.
        key: Configuration key of the source, for messages.

    Raises:
        DataError: The source cannot be read, a row has no preference, an id is used twice, or no row can be used.
    """
    return _prepare(source, encoder, path, key, read_example)


def prepare_demonstrations(
    source: SourceConfig, encoder: Encoder, path: Path | str, key: str
) -> tuple[Dataset, SourceFigures]:
    """Write a source's demonstrations, or the better responses of its pairs; like ``prepare_pairs``.

    Raises:
        DataError: As ``prepare_pairs``; or only some rows are pairs.
    """
    kind = OneKind()

    def read(row: Row, where: str, how: Reading) -> RawExample | Drop:
        kind.check(row, where, how)
        return read_demonstration(row, where, how)

    return _prepare(source, encoder, path, key, read)


def prepare_prompts(
    source: SourceConfig, encoder: Encoder, path: Path | str, key: str
) -> tuple[Dataset, SourceFigures]:
    """Write a source's distinct prompts; duplicates are dropped and counted. Like ``prepare_pairs``."""
    tally = Tally(describe(source), has_template=encoder.tokenizer.chat_template is not None)

    def prompts() -> Iterator[Prompt]:
        seen = FirstUses()
        rows = _rows(source, key, tally)
        del tally.dropped[NO_RANK]  # a prompt needs no ranks
        for raw, encoded in _encode(rows, tally, read_prompt, encoder, reading(encoder.data, key)):
            if isinstance(encoded, str):
                tally.drop(encoded, raw.where)
                continue
            prompt = _prompt(raw, encoded, encoder)
            if seen.add(prompt.prompt_id) is not None:
                tally.drop(DUPLICATE, raw.where)
                continue
            tally.keep(raw, encoded.notes, encoded)
            yield prompt

    write_prompts(path, prompts())
    return read_table(path), tally.report()


def heldout_rows(table: Dataset, fraction: float, seed: int) -> np.ndarray:
    """Whether each row of a table of examples or prompts is held out [N]: all rows of a prompt, or none.

    The prompts with the smallest digests (with the seed) are held out, so the order of the rows does not matter. If
    there are at least two prompts and ``fraction`` is not 0, each side gets at least one.
    """
    if fraction <= 0 or not len(table):
        return np.zeros(len(table), dtype=bool)
    prompts = column_values(table, "prompt_id")
    # Sixteen bytes tell any prompts apart.
    of_rows = packed((hashlib.sha256(f"{seed}:{prompt}".encode()).digest()[:16] for prompt in prompts), "S16")
    different = np.unique(of_rows)
    size = min(max(1, round(fraction * len(different))), len(different) - 1)
    return of_rows < different[size]


def _prepare(
    source: SourceConfig,
    encoder: Encoder,
    path: Path | str,
    key: str,
    read: Callable[[Row, str, Reading], RawExample | Drop],
) -> tuple[Dataset, SourceFigures]:
    """Write examples of any form."""
    tally = Tally(describe(source), has_template=encoder.tokenizer.chat_template is not None)
    kept = kept_columns(source, encoder.data.keep_columns)
    needed = kept if key == "data.pairs" else {}

    def carrying(row: Row, where: str, how: Reading) -> RawExample | Drop:
        raw = read(row, where, how)
        unread = tuple(name for name in raw.unread if name not in kept.values())
        if isinstance(raw, Drop):
            return replace(raw, unread=unread)
        return replace(raw, unread=unread, carried=carried_values(row, kept))

    def examples() -> Iterator[Example]:
        identities = _Identities()
        rows = _rows(source, key, tally, needed)
        for raw, encoded in _encode(rows, tally, carrying, encoder, reading(encoder.data, key)):
            example_id, repeated = identities.take(raw)
            if isinstance(encoded, str):
                tally.drop(encoded, raw.where)
                continue
            tally.keep(raw, [*encoded.notes, *([DUPLICATE] * repeated)], encoded)
            responses = map(Response, encoded.responses, encoded.response_ids)
            prompt = _prompt(raw, encoded, encoder)
            yield Example(example_id, prompt, tuple(responses), raw.preference, raw.weight, carried=raw.carried)

    write_examples(path, examples(), list(kept))
    return read_table(path), tally.report()


def _rows(
    source: SourceConfig, key: str, tally: Tally, needed: Mapping[str, str] = NONE
) -> Iterator[list[tuple[Row, str]]]:
    """Rows in chunks, each with its place. ``needed`` are the columns to keep, which the source must have."""
    table = load_rows(source, key)
    tally.dropped.update(table.left_out)
    check_kept(source, needed, table.column_names)
    # If other rows have a prompt, a row without one has lost it; its prompt is not looked for in the answers.
    absent = {"prompt": None} if "prompt" in table.column_names else {}
    rows = ((absent | row, where) for row, where in table.located())
    return iter(lambda: cast(list[tuple[Row, str]], list(islice(rows, CHUNK))), [])


def _encode(
    chunks: Iterable[list[tuple[Row, str]]],
    tally: Tally,
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
                tally.drop(raw.reason, where)
            else:
                raws.append(raw)
        for raw, encoded in zip(raws, encoder.encode([_unencoded(raw) for raw in raws]), strict=True):
            if encoded in (PROMPT_CHARACTERS, RESPONSE_CHARACTERS) and encoded not in tally.first:
                characters = ", ".join(map(repr, encoder.dropped_characters(_unencoded(raw))[:_SHOWN]))
                tally.first[str(encoded)] = f"{raw.where}: {characters}"
            yield raw, encoded


def _unencoded(raw: RawExample | RawPrompt) -> Unencoded:
    responses = raw.responses if isinstance(raw, RawExample) else ()
    return Unencoded(raw.prompt, responses, raw.where, raw.inputs)


def _prompt(raw: RawExample | RawPrompt, encoded: Encoded, encoder: Encoder) -> Prompt:
    messages = template_inputs = None
    if is_chat(raw.prompt):
        given = conversation(_unencoded(raw), encoder.data)
        messages, template_inputs = _json(given.prompt), _json(given.inputs.given()) if given.inputs else None
    return Prompt(content_id(encoded.prompt_ids), encoded.prompt, encoded.prompt_ids, messages, template_inputs)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _Identities:
    """The ids used so far, and the rows that use them."""

    def __init__(self) -> None:
        self._taken = FirstUses()

    def take(self, raw: RawExample) -> tuple[str, bool]:
        """The row's id, made unique if it is a digest; and whether the same content occurred before."""
        found, number = raw.example_id, 1
        while (used := self._taken.add(found, raw.where)) is not None:
            if raw.named:
                raise DataError(f"{raw.where}: pair_id {found!r} is already used by {used}; it must be unique")
            number += 1
            found = f"{raw.example_id}-{number}"
        return found, number > 1

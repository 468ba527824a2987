"""Loads rows from local files or from a dataset on the hub.

Values are read as they are, without guessing types. JSON keeps its types; every CSV cell is text, and only ``p``,
``p_b`` and ``weight`` are converted to numbers.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from seralign.config import SourceConfig
from seralign.data.columns import EXPLICIT, IMPLICIT, KNOWN_COLUMNS, listed_names
from seralign.data.hub import hub_fingerprint, hub_rows
from seralign.data.label import is_number
from seralign.data.readers.arrow_rows import dataset_part, parquet_part, saved_part
from seralign.data.readers.csv_rows import csv_part
from seralign.data.readers.files import DELIMITERS, SAVED, DataFile, local_files, saved_files
from seralign.data.readers.json_rows import json_part
from seralign.data.readers.part import Located, Part
from seralign.data.readers.remote import open_remote
from seralign.data.readers.streams import OPENERS, readable
from seralign.data.trees import NO_RANK, is_tree, read_forest
from seralign.errors import ConfigError, DataError
from seralign.progress import say

_NUMBERS = ("p", "p_b", "weight")


@dataclass(frozen=True)
class Rows:
    """The rows of a source with our column names. They stay in their files and are not held in memory.

    Iterating is one pass over the files. ``rows[i]`` reads all rows before it, so do not use it in a loop. Of message
    trees, a row is a conversation with its ranked replies, and ``left_out`` has the messages that are in none, by
    reason.
    """

    column_names: list[str]
    _length: int
    _parts: tuple[Part, ...]
    _columns: dict[str, str]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (values for values, _ in self.located())

    def __getitem__(self, index: int) -> dict[str, Any]:
        at = operator.index(index)
        at = at + self._length if at < 0 else at
        if not 0 <= at < self._length:
            raise IndexError(f"row {index} of {self._length}")
        return next(islice(iter(self), at, None))

    def located(self) -> Iterator[Located]:
        """Each row with its place, such as ``pairs.csv row 1 (line 2)``.

        Raises:
            DataError: A CSV cell that must be a number is not one.
        """
        rows = (located for part in self._parts for located in _located(part, self._columns))
        return islice(rows, self._length)


def load_rows(source: SourceConfig, key: str) -> Rows:
    """Load the rows of a source, at most ``source.limit``. Reads all of them once, so that errors in a file show here.

    Args:
        source: Local files or a name on the hub. Code in a dataset is never run.
        key: Configuration key of the source, such as ``data.pairs``, for messages.

    Raises:
        DataError: A file is missing, empty or broken (the message names the row or line) or has an unknown extension;
            a hub dataset cannot be loaded; a split is missing; or no row has a mapped column.
        ConfigError: A column mapping or another option does not apply to the source.
    """
    unknown = sorted(set(source.columns) - KNOWN_COLUMNS)
    if unknown:
        alike = get_close_matches(unknown[0], KNOWN_COLUMNS, 1)
        hint = f"did you mean {alike[0]}? " if alike else ""
        raise ConfigError(
            f"{key}.columns: unknown column {unknown[0]!r}; {hint}ours are {', '.join(sorted(KNOWN_COLUMNS))}"
        )
    if source.limit is not None and source.limit < 1:
        raise ConfigError(f"{key}.limit must be at least 1, got {source.limit}")
    files = local_files(source, key)
    found = hub_rows(source, key) if files is None else files
    parts = [_part(file) for file in found] if isinstance(found, list) else [dataset_part(describe(source), found)]
    columns: dict[str, None] = {}
    length = 0
    for part in parts:
        left = None if source.limit is None else source.limit - length
        if left == 0:
            break
        size = part.measure(left)
        length += size.rows
        columns |= dict.fromkeys(size.columns)
    if length == 0:
        raise DataError(f"{describe(source)} ({key}) has no rows")
    _check_mapping(source, list(columns), key)
    names = list(_mapped(columns, source.columns))
    if is_tree(names):
        return _tree_rows(source, parts, key)
    return Rows(names, length, tuple(parts), source.columns)


def say_left_out(rows: Rows, key: str) -> None:
    """Print the counts of messages of trees that are in no prompt, where no figures of a run have them.

    Args:
        rows: The rows, which are read as prompts.
        key: Name of the source.
    """
    # A prompt needs no ranks.
    counts = ", ".join(f"{reason} {count}" for reason, count in rows.left_out.items() if reason != NO_RANK)
    if counts:
        say(f"{key}: messages of trees that are left out: {counts}")


def fingerprint(source: SourceConfig, key: str) -> str:
    """A digest of a source's content: SHA-256 of a file's bytes, or of the digests of several files in order, or the
    commit of a hub dataset.

    Raises:
        DataError: A file does not exist or cannot be read, or the hub dataset cannot be loaded.
    """
    files = local_files(source, key)
    if files is None:
        return hub_fingerprint(source, key)
    digests = [_digest(path, file.name) for file in files for path in _paths(file)]
    if len(digests) == 1:
        return f"sha256:{digests[0]}"
    return f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"


def describe(source: SourceConfig) -> str:
    """A source's path as text, for messages and reports."""
    if isinstance(source.path, str):
        return source.path
    shown = ", ".join(source.path[:3])
    return shown if len(source.path) <= 3 else f"{shown} and {len(source.path) - 3} more"


def _tree_rows(source: SourceConfig, parts: list[Part], key: str) -> Rows:
    """The rows of message trees, which may go across files."""
    forest = read_forest(lambda: (located for part in parts for located in _located(part, source.columns)))
    size, left_out = forest.measure(source.limit)
    if size.rows == 0:
        counts = ", ".join(f"{reason} {count}" for reason, count in left_out.most_common())
        raise DataError(f"{describe(source)} ({key}) has no message of a prompter that can be used: {counts}")
    whole = Part(forest.rows, lambda limit: forest.measure(limit)[0])
    return Rows(list(size.columns), size.rows, (whole,), {}, left_out)


def _located(part: Part, columns: dict[str, str]) -> Iterator[Located]:
    for values, where in part.read():
        mapped = _mapped(values, columns)
        yield (_numbers(mapped, where) if part.all_text else mapped), where


def _part(file: DataFile) -> Part:
    if file.kind == SAVED:
        return saved_part(file.name, saved_files(file.path, file.name))
    if file.remote is None:
        with readable(file.name):
            if file.path.stat().st_size == 0:
                raise DataError(f"{file.name} is empty")
    start = partial(_opened, file)
    if file.kind == ".parquet":
        return parquet_part(file.name, start)
    if file.kind in DELIMITERS:
        return csv_part(file.name, start, DELIMITERS[file.kind])
    return json_part(file.name, start)


def _opened(file: DataFile) -> BinaryIO:
    return OPENERS[file.packing](file.path if file.remote is None else open_remote(file.remote))


def _paths(file: DataFile) -> list[Path]:
    return saved_files(file.path, file.name) if file.kind == SAVED else [file.path]


def _digest(path: Path, name: str) -> str:
    with readable(name), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_mapping(source: SourceConfig, names: list[str], key: str) -> None:
    for ours, theirs in source.columns.items():
        if theirs not in names:
            raise DataError(
                f"{key}.columns.{ours}: {describe(source)} has no column {theirs!r}; it has {listed_names(names)}"
            )
    if len(set(source.columns.values())) < len(source.columns):
        raise ConfigError(f"{key}.columns: a column of the file can be mapped to one name only, got {source.columns}")
    for ours, theirs in source.columns.items():
        if theirs in IMPLICIT and ours in EXPLICIT and ours != theirs and theirs not in source.columns:
            raise ConfigError(
                f"{key}.columns.{ours}: the column {theirs} is used twice, as {ours} and as {theirs}; "
                f"map another column to one of the two"
            )


def _mapped(values: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    """A row under our names. A column that has one of our names by chance is renamed if another column is mapped to
    that name; it is not used, and its new name says so.
    """
    if not columns:
        return values
    names = {ours: f"{ours} of the file" for ours in columns} | {theirs: ours for ours, theirs in columns.items()}
    return {names.get(name, name): value for name, value in values.items()}


def _numbers(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A row of text with the number columns converted to numbers."""
    for name in _NUMBERS:
        text = row.get(name)
        if isinstance(text, str):
            if not is_number(text):
                raise DataError(f"{where}: {name} must be a number, got {text[:40]!r}")
            row[name] = float(text)
    return row

"""The common result of every reader: a part of a source whose rows can be read any number of times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from seralign.errors import DataError

Located = tuple[dict[str, Any], str]
"""A row's columns, and its place, such as ``pairs.csv row 1 (line 2)``."""


@dataclass(frozen=True, slots=True)
class Size:
    """The number of rows of a part, and the names of all columns in the order in which they first occur."""

    rows: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One file or table. It holds no rows.

    ``read`` starts at the first row each time. ``measure`` reads the rows, at most the given number, and raises errors
    in them. ``all_text``: the format knows only text, so numbers are text too.
    """

    read: Callable[[], Iterator[Located]]
    measure: Callable[[int | None], Size]
    all_text: bool = False


def measured(rows: Iterable[Located], limit: int | None) -> Size:
    """The size of rows that must be read to be counted."""
    columns: dict[str, None] = {}
    count = 0
    for values, _ in islice(rows, limit):
        count += 1
        for name in values:
            if name not in columns:
                columns[name] = None
    return Size(count, tuple(columns))


def check_names(columns: Sequence[str], file: str) -> None:
    """Check that no two columns have the same name, because a row could keep only one of them.

    Raises:
        DataError: Two columns have the same name.
    """
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise DataError(f"{file} has two columns named {twice!r}; rename one of them")


def place(file: str, row: int, line: int | None = None) -> str:
    """A row's number, and its line in an editor if that differs."""
    return f"{file} row {row}" if line in (None, row) else f"{file} row {row} (line {line})"

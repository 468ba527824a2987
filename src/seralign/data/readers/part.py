"""What every reader gives: a part of a source, whose rows can be gone through again and again."""

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
    """How many rows a part has, and the columns that any of them has, in the order in which they first come."""

    rows: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One file or table. No row is held.

    ``read`` starts at the first row each time. ``measure`` goes through the rows, at most as many as it is given, and
    raises what is wrong with them. ``all_text``: the format knows nothing but text, so a number is text, too.
    """

    read: Callable[[], Iterator[Located]]
    measure: Callable[[int | None], Size]
    all_text: bool = False


def measured(rows: Iterable[Located], limit: int | None) -> Size:
    """The size of rows that have to be read to be counted."""
    columns: dict[str, None] = {}
    count = 0
    for values, _ in islice(rows, limit):
        count += 1
        for name in values:
            if name not in columns:
                columns[name] = None
    return Size(count, tuple(columns))


def check_names(columns: Sequence[str], file: str) -> None:
    """Refuse a table with two columns of one name: a row could have only one of them.

    Raises:
        DataError: It has two.
    """
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise DataError(f"{file} has two columns with the name {twice!r}; give each a name of its own")


def place(file: str, row: int, line: int | None = None) -> str:
    """Where a row is: its number, and the editor's line where that is another."""
    return f"{file} row {row}" if line in (None, row) else f"{file} row {row} (line {line})"

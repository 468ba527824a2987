"""Source columns that are carried along with an example to the tables of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from seralign.config import SourceConfig
from seralign.data.columns import Row, listed_names
from seralign.data.sources import describe
from seralign.errors import DataError

NONE: Mapping[str, str] = {}


def kept_columns(source: SourceConfig, names: Iterable[str]) -> dict[str, str]:
    """Where rows have the columns to keep: names in the file mapped to names in the rows, which ``columns`` of the
    source may have renamed."""
    ours = {theirs: mine for mine, theirs in source.columns.items()}
    return {name: ours.get(name, f"{name} of the file" if name in source.columns else name) for name in names}


def check_kept(source: SourceConfig, kept: Mapping[str, str], columns: Iterable[str]) -> None:
    """Check that the source has the columns to keep.

    Raises:
        DataError: A column is missing; the message lists those of the file.
    """
    there = list(columns)
    for name, column in kept.items():
        if column not in there:
            theirs = [source.columns.get(each, each.removesuffix(" of the file")) for each in there]
            raise DataError(
                f"data.keep_columns: {describe(source)} has no column {name!r}; it has {listed_names(theirs)}"
            )


def carried_values(row: Row, kept: Mapping[str, str]) -> dict[str, str | None]:
    """The values of the columns to keep: text unchanged, other values as JSON, None if the row has none."""
    return {name: _text(row.get(column)) for name, column in kept.items()}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)

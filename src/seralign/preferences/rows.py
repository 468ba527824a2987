"""Rows of a source as groups: each prompt with its responses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from seralign.data.columns import WITH_PROMPT
from seralign.data.sources import Rows, load_rows
from seralign.errors import DataError
from seralign.preferences.config import RowsConfig
from seralign.preferences.groups import Group
from seralign.records import content_id
from seralign.runs.database import database_errors

_SCHEMA = """
CREATE TABLE IF NOT EXISTS prompts (id INTEGER PRIMARY KEY, key TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, prompt INTEGER, place TEXT, content TEXT);
CREATE INDEX IF NOT EXISTS by_prompt ON rows (prompt, number);
"""
_CHUNK = 10_000


@dataclass(frozen=True)
class Groups:
    """The groups of a source, in the order of the first row of each. ``rows`` is the number of rows."""

    rows: int
    count: int
    _source: Rows
    _data: RowsConfig
    _database: Path | None

    @property
    def left_out(self) -> Mapping[str, int]:
        """Messages of trees that are in no group, by reason."""
        return self._source.left_out

    def __iter__(self) -> Iterator[Group]:
        if self._database is None:
            return (group_of(row, where, self._data) for row, where in self._source.located())
        return _gathered(self._database, self._data)


def read_groups(data: RowsConfig, folder: Path) -> Groups:
    """Open the rows. All of them are read once, so a file that cannot be read is found here.

    With one response a row, the rows are sorted by prompt in a file in ``folder``.

    Raises:
        DataError: The source cannot be read, or a column is missing.
        ConfigError: An option of the source does not fit it.
    """
    rows = load_rows(data.source, "data")
    responses = [data.response] if data.response is not None else data.responses
    needed = [data.prompt, *([responses] if isinstance(responses, str) else responses or [])]
    for key, column in zip(("prompt", *["responses" if data.response is None else "response"] * len(needed)), needed,
                           strict=False):  # fmt: skip
        if column not in rows.column_names:
            raise DataError(f"data.{key}: there is no column {column!r}; there are {', '.join(rows.column_names)}")
    if data.response is None:
        return Groups(len(rows), len(rows), rows, data, None)
    database = folder / "rows.sqlite"
    return Groups(len(rows), _sort(rows, data, database), rows, data, database)


def group_of(row: Mapping[str, Any], where: str, data: RowsConfig) -> Group:
    """The group of a row that has all responses to its prompt.

    Raises:
        DataError: The prompt or the responses are missing.
    """
    prompt = _prompt(row, where, data)
    each: tuple[Mapping[str, Any], ...] = ()
    if isinstance(data.responses, list):
        responses = tuple(row.get(column) for column in data.responses)
    else:
        found = row.get(str(data.responses))
        if not isinstance(found, list | tuple):
            raise DataError(f"{where}: {data.responses} must be a list of responses, got {found!r:.60}")
        responses = tuple(found)
        if data.text is not None:
            each = tuple(_object(one, where, data) for one in responses)
            responses = tuple(one[data.text] for one in each)
    for number, response in enumerate(responses):
        _check_response(response, f"{where}: response {number}")
    inputs = {name: row[name] for name in WITH_PROMPT if row.get(name) and name != data.prompt}
    return Group(where, prompt, responses, row, each, inputs)


def _object(value: Any, where: str, data: RowsConfig) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or data.text not in value:
        raise DataError(f"{where}: {data.responses} must be a list of objects with {data.text} (data.text)")
    return value


def _check_response(response: Any, where: str) -> None:
    if isinstance(response, Mapping) and not {"role", "from"} & response.keys():
        raise DataError(
            f"{where} is an object with {', '.join(map(str, response))}; name the key of its text with data.text"
        )
    if not isinstance(response, str | list | tuple | Mapping):
        raise DataError(f"{where} must be text or messages, got {response!r:.60}")


def _prompt(row: Mapping[str, Any], where: str, data: RowsConfig) -> Any:
    prompt = row.get(data.prompt)
    if not isinstance(prompt, str | list | tuple | Mapping):
        raise DataError(f"{where}: {data.prompt} must be text or messages, got {prompt!r:.60}")
    return prompt


def _sort(rows: Rows, data: RowsConfig, path: Path) -> int:
    """Store the rows by prompt; returns the number of prompts."""
    path.unlink(missing_ok=True)
    with database_errors(path, "rows sorted by prompt", _SCHEMA), closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(_SCHEMA)
        for number, (row, where) in enumerate(rows.located()):
            prompt = _prompt(row, where, data)
            _check_response(row.get(str(data.response)), f"{where}: {data.response}")
            key = content_id([prompt, {name: row[name] for name in WITH_PROMPT if row.get(name)}])
            database.execute("INSERT OR IGNORE INTO prompts (key) VALUES (?)", (key,))
            (found,) = database.execute("SELECT id FROM prompts WHERE key = ?", (key,)).fetchone()
            database.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", (number, found, where, json.dumps(row)))
            if number % _CHUNK == _CHUNK - 1:
                database.commit()
        database.commit()
        return database.execute("SELECT count(*) FROM prompts").fetchone()[0]


def _gathered(path: Path, data: RowsConfig) -> Iterator[Group]:
    """Groups of the stored rows."""
    with database_errors(path, "rows sorted by prompt", _SCHEMA), closing(sqlite3.connect(path)) as database:
        stored = database.execute("SELECT prompt, place, content FROM rows ORDER BY prompt, number")
        for _, some in groupby(stored, key=lambda row: row[0]):
            own = [(place, json.loads(content)) for _, place, content in some]
            where, first = own[0]
            inputs = {name: first[name] for name in WITH_PROMPT if first.get(name) and name != data.prompt}
            responses = tuple(row[str(data.response)] for _, row in own)
            yield Group(where, first[data.prompt], responses, first, tuple(row for _, row in own), inputs)

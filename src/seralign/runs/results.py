"""The stored results of a run: the answers of sampling engines and judges, keyed by the content of the request.

A key covers everything that the answer depends on, so the same request is never made twice, and a stage that was killed
requests only what is missing. The results are one SQLite file in the run; only the main process uses it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from seralign.progress import say
from seralign.runs.database import database_errors, integrity, open_database, reading_database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL
) WITHOUT ROWID
"""
_CHUNK = 500


def result_key(kind: str, content: Any) -> bytes:
    """Identity of a request: a digest of ``kind`` and of ``content``, any JSON value."""
    text = json.dumps([kind, content], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).digest()


class Results:
    """Results by key. A value is any JSON value. The file is created at the first access.

    SQLite has no checksums, so each row has one, of key and value. A row that was changed on the disk is removed with a
    warning, and requested again.

    Raises:
        StoreError: the file is not a store of results (it is not changed), or it is corrupt and can be deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: sqlite3.Connection | None = None

    def get(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
        """The stored values with their keys, in no particular order."""
        damaged: list[bytes] = []
        for start in range(0, len(keys), _CHUNK):
            chunk = list(keys[start : start + _CHUNK])
            marks = ",".join("?" * len(chunk))
            with self._errors():
                rows = self._db.execute(f"SELECT key, value, checksum FROM results WHERE key IN ({marks})", chunk)
                found = rows.fetchall()
            for key, value, checksum in found:
                if _is_sound(key, value, checksum):
                    yield key, json.loads(zlib.decompress(value))
                else:
                    damaged.append(key)
        if damaged:
            say(f"warning: {self.path}: {len(damaged)} results were changed on the disk; they are requested again")
            with self._errors(), self._db:
                self._db.executemany("DELETE FROM results WHERE key = ?", [(key,) for key in damaged])

    def put(self, values: Mapping[bytes, Any]) -> None:
        """Store values in one transaction. Existing values are kept."""
        rows = []
        for key, value in values.items():
            packed = zlib.compress(json.dumps(value, separators=(",", ":"), allow_nan=False).encode())
            rows.append((key, packed, _checksum(key, packed)))
        with self._errors(), self._db:
            self._db.executemany("INSERT OR IGNORE INTO results VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _db(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = open_database(self.path, _SCHEMA)
        return self._opened

    def _errors(self) -> AbstractContextManager[None]:
        return database_errors(self.path, "store of results", _SCHEMA)


def check_results(path: Path) -> tuple[int, list[str]]:
    """Read a whole store without writing; returns the number of rows, and its problems."""
    rows = damaged = 0
    try:
        with reading_database(path) as db:
            problems = integrity(db)
            for row in db.execute("SELECT key, value, checksum FROM results"):
                rows += 1
                damaged += not _is_sound(*row)
    except sqlite3.Error as error:
        return rows, [f"cannot be read: {error}"]
    return rows, problems + ([f"{damaged} rows were changed since they were written"] if damaged else [])


def _is_sound(key: Any, value: Any, checksum: Any) -> bool:
    return isinstance(key, bytes) and isinstance(value, bytes) and checksum == _checksum(key, value)


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=16).digest()

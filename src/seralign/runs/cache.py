"""The log-probability cache: each response is scored once under each policy.

Keys depend on content, never on a path or the name of a dataset: the digest of the policy's weights, how they are
computed (precision, attention, versions, device), and the token ids of prompt and response. The cache is one SQLite
file. Each pack of results is one transaction, so a killed process loses at most the pack that it was computing.

A row has its value twice, and a checksum of policy, response and value. SQLite itself has no checksums, so a value that
was changed on the disk would otherwise be read as if it had been computed.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from seralign.progress import say
from seralign.runs.database import database_errors, integrity, open_database, reading_database
from seralign.runs.streams import packed

# The seal: the value's 8 bytes again, and the checksum.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS logps (
    policy TEXT, response BLOB, logp REAL NOT NULL, seal BLOB NOT NULL, PRIMARY KEY (policy, response)
) WITHOUT ROWID
"""
_CHUNK = 500
_DOUBLE = struct.Struct("<d")

KEY = "V16"
"""The numpy type of arrays of keys [N], 16 bytes each; ``tolist`` gives them as bytes."""


def response_key(prompt_ids: Sequence[int] | np.ndarray, response_ids: Sequence[int] | np.ndarray) -> bytes:
    """Identity of a response to a prompt: a 128-bit digest of both lists of token ids."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(len(prompt_ids).to_bytes(8, "little"))
    digest.update(np.asarray(prompt_ids, dtype=np.int64).tobytes())
    digest.update(np.asarray(response_ids, dtype=np.int64).tobytes())
    return digest.digest()


def made_keys(keys: Iterable[bytes]) -> np.ndarray:
    """An array of keys [N] from digests of 16 bytes."""
    return packed(keys, KEY)


def numbered_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number different keys in order of their first use.

    Args:
        keys: Of type ``KEY`` [N].

    Returns:
        The number of each key [N], and the place of the first use of each different one [D], in increasing order;
        int32, since there may be millions.
    """
    if not len(keys):
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32)
    halves = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2).T
    order = np.lexsort(halves).astype(np.int32)
    is_new = np.zeros(len(keys), dtype=bool)
    is_new[0] = True
    for half in halves:
        of_sorted = half[order]
        is_new[1:] |= of_sorted[1:] != of_sorted[:-1]
    # The sort is stable, so the first of equal keys comes first.
    first = order[is_new]
    by_first = np.argsort(first).astype(np.int32)
    number_of = np.empty_like(first)
    number_of[by_first] = np.arange(len(first), dtype=np.int32)
    numbers = np.empty(len(keys), dtype=np.int32)
    numbers[order] = number_of[np.cumsum(is_new, dtype=np.int32) - 1]
    return numbers, first[by_first]


class LogpCache:
    """Summed response log-probabilities by policy and response.

    ``hits`` and ``misses`` count requests since the cache was opened. A row that was changed on the disk is restored
    from its second value, or removed, which is a miss. A warning counts such rows.

    Raises:
        StoreError: the file is not a cache (it is not changed), or it is corrupt and can be deleted without loss.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.hits = 0
        self.misses = 0
        with self._errors():
            self._db = open_database(self.path, _SCHEMA)

    def get(self, policy: str, keys: np.ndarray) -> np.ndarray:
        """Log-probabilities [N] in nats of keys [N], NaN for missing ones."""
        values = np.full(len(keys), np.nan)
        seal, harmed = _sealer(policy.encode()), []
        with self._errors():
            for start in range(0, len(keys), _CHUNK):
                chunk: list[bytes] = keys[start : start + _CHUNK].tolist()
                marks, found = ",".join("?" * len(chunk)), dict[bytes, float]()
                query = f"SELECT response, logp, seal FROM logps WHERE policy = ? AND response IN ({marks})"
                for row in self._db.execute(query, [policy, *chunk]):
                    value, is_harmed = _unsealed(seal, *row)
                    if is_harmed:
                        harmed.append((*row, value))
                    if value is not None:
                        found[row[0]] = value
                values[start : start + _CHUNK] = [found.get(key, np.nan) for key in chunk]
        if harmed:
            self._mend(policy, harmed)
        missing = int(np.isnan(values).sum())
        self.misses += missing
        self.hits += len(keys) - missing
        return values

    def put(self, policy: str, keys: np.ndarray, values: Iterable[float]) -> None:
        """Store log-probabilities of keys [N] in one transaction. Existing values are kept: a value never changes."""
        seal, both = _sealer(policy.encode()), zip(keys.tolist(), map(float, values), strict=True)
        rows = ((policy, key, value, seal(key, value)) for key, value in both)
        with self._errors(), self._db:
            self._db.executemany("INSERT OR IGNORE INTO logps VALUES (?, ?, ?, ?)", rows)

    def _mend(self, policy: str, rows: list[tuple[Any, ...]]) -> None:
        """Rewrite a damaged row if its value is known, else remove it. Another process may have done so already."""
        seal = _sealer(policy.encode())
        mended = [(value, seal(key, value), policy, key, old) for key, _, old, value in rows if value is not None]
        lost = [(policy, key, old) for key, _, old, value in rows if value is None]
        say(
            f"warning: {self.path}: {len(rows)} log-probabilities were changed on the disk; "
            f"{len(mended)} were restored, and {len(lost)} are computed again"
        )
        with self._errors(), self._db:
            self._db.executemany(
                "UPDATE logps SET logp = ?, seal = ? WHERE (policy, response, seal) = (?, ?, ?)", mended
            )
            self._db.executemany("DELETE FROM logps WHERE (policy, response, seal) = (?, ?, ?)", lost)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _errors(self) -> AbstractContextManager[None]:
        return database_errors(self.path, "log-probability cache", _SCHEMA)


def check_cache(path: Path) -> tuple[int, list[str]]:
    """Read a whole cache without writing; returns the number of rows, and its problems."""
    harmed = rows = 0
    try:
        with reading_database(path) as db:
            problems = integrity(db)
            for policy, *row in db.execute("SELECT policy, response, logp, seal FROM logps"):
                rows += 1
                harmed += _unsealed(_sealer(policy), *row)[1]
    except sqlite3.Error as error:
        return rows, [f"cannot be read: {error}"]
    return rows, problems + ([f"{harmed} rows were changed since they were written"] if harmed else [])


def _sealer(policy: bytes) -> Callable[[bytes, float], bytes]:
    """A function that makes the seals of a policy's rows: the bytes of the value, and a checksum of policy, response
    and value.
    """
    of_policy = hashlib.blake2b(policy, digest_size=8)

    def seal(key: bytes, value: float) -> bytes:
        plain = _DOUBLE.pack(value)
        digest = of_policy.copy()
        digest.update(key)
        digest.update(plain)
        return plain + digest.digest()

    return seal


def _unsealed(seal: Callable[[bytes, float], bytes], key: Any, logp: Any, sealed: Any) -> tuple[float | None, bool]:
    """The value of a row (from the copy that the checksum confirms, or None), and whether the row is damaged."""
    if not (isinstance(key, bytes) and isinstance(logp, float) and isinstance(sealed, bytes) and len(sealed) == 16):
        return None, True
    if seal(key, logp) == sealed:
        return logp, False
    (again,) = _DOUBLE.unpack(sealed[:8])
    for value in (again, logp):
        if seal(key, value)[8:] == sealed[8:]:
            return value, True
    return None, True

"""The log-probability cache: what a policy gave a response is computed once.

Keyed by content, never by a path or a data set's name: the digest of the policy's weights, what computes with them
(precision, attention, versions, device), and the token ids of prompt and response. One SQLite file; each pack of
results is one transaction, so a killed process loses at most the pack that it was computing.
"""

from __future__ import annotations

import fcntl
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from seralign.errors import StoreError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS logps (policy TEXT, response BLOB, logp REAL NOT NULL, PRIMARY KEY (policy, response))
WITHOUT ROWID
"""
_CHUNK = 500


def response_key(prompt_ids: Sequence[int] | np.ndarray, response_ids: Sequence[int] | np.ndarray) -> bytes:
    """Identity of a response to a prompt: a 128-bit digest of both lists of token ids."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(len(prompt_ids).to_bytes(8, "little"))
    digest.update(np.asarray(prompt_ids, dtype=np.int64).tobytes())
    digest.update(np.asarray(response_ids, dtype=np.int64).tobytes())
    return digest.digest()


class LogpCache:
    """Summed response log-probabilities by policy and response.

    ``hits`` and ``misses`` count what was asked for since the cache was opened.

    Raises:
        StoreError: the file is no cache, or is corrupt; deleting it loses time and nothing else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.hits = 0
        self.misses = 0
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=60)
            with self.path.with_name(f"{self.path.name}-lock").open("w") as lock:
                # The timeout does not hold for the change of the journal: of two that make the file, one would fail.
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.execute(_SCHEMA)
                self._db.commit()

    def get(self, policy: str, keys: Sequence[bytes]) -> np.ndarray:
        """Log-probabilities [N] in nats, NaN where there is none yet."""
        found: dict[bytes, float] = {}
        with self._errors():
            for start in range(0, len(keys), _CHUNK):
                chunk = list(keys[start : start + _CHUNK])
                marks = ",".join("?" * len(chunk))
                query = f"SELECT response, logp FROM logps WHERE policy = ? AND response IN ({marks})"
                found.update(self._db.execute(query, [policy, *chunk]))
        values = np.array([found.get(key, np.nan) for key in keys], dtype=np.float64)
        missing = int(np.isnan(values).sum())
        self.misses += missing
        self.hits += len(keys) - missing
        return values

    def put(self, policy: str, keys: Iterable[bytes], values: Iterable[float]) -> None:
        """Store log-probabilities in one transaction. What is there already stays: a value never changes."""
        rows = [(policy, key, float(value)) for key, value in zip(keys, values, strict=True)]
        with self._errors(), self._db:
            self._db.executemany("INSERT OR IGNORE INTO logps VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise StoreError(f"{self.path}: the log-probability cache cannot be used: {error}") from None
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self.path}: not a log-probability cache, or a corrupt one ({error}). "
                "Delete the file: it is filled again, only time is lost"
            ) from None

"""SQLite files that a run fills while it works: opened by several processes, and refused with one clear error."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from seralign.errors import StoreError
from seralign.runs.files import full_disk


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """Open a file, which is made where it is not there. Call it within ``database_errors``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = _connect(str(path))
    try:
        with path.with_name(f"{path.name}-lock").open("w") as lock:
            # The timeout does not hold for the change of the journal: of two that make the file, one would fail.
            fcntl.flock(lock, fcntl.LOCK_EX)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA cell_size_check=ON")
            db.execute(schema)
            db.commit()
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def database_errors(path: Path, what: str) -> Iterator[None]:
    """Turn errors of SQLite into one that names the file and says that it is ``what``.

    Raises:
        StoreError: the file cannot be read or written, is no such file, or is corrupt.
    """
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise full_disk(path.parent) from None
        if code == sqlite3.SQLITE_IOERR:
            raise StoreError(
                f"{path}: cannot be read or written ({error}), as on a full disk. Everything finished is "
                "kept: make room and give the same command again"
            ) from None
        raise StoreError(f"{path}: the {what} cannot be used: {error}") from None
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path}: not a {what}, or a corrupt one ({error}). Delete the file: it is filled again, only time is lost"
        ) from None


@contextmanager
def reading_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file to read it; nothing is written."""
    with closing(_connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        yield db


def integrity(db: sqlite3.Connection) -> list[str]:
    """What SQLite itself finds wrong with a file."""
    return [found.decode() for (found,) in db.execute("PRAGMA integrity_check") if found != b"ok"]


def _connect(name: str, uri: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(name, timeout=60, uri=uri)
    # A blob that was changed into a text need not be UTF-8.
    db.text_factory = bytes
    return db

"""SQLite files of a run: opened by several processes, with one clear error if one cannot be used."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from seralign.errors import StoreError
from seralign.runs.files import full_disk

_MAGIC = b"SQLite format 3\0"
_HEAD = 65536


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """Open a file, which is created if it does not exist. Call this within ``database_errors``.

    A file that is not empty and does not have the table of ``schema`` belongs to something else and is not changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size and not _head(path).startswith(_MAGIC):
        raise sqlite3.DatabaseError("not a file of SQLite")
    db = _connect(str(path))
    try:
        with path.with_name(f"{path.name}-lock").open("w") as lock:
            # The timeout does not apply to the change of the journal: if two processes create the file, one would fail.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _has_other_tables(db, schema):
                raise sqlite3.DatabaseError("a database of something else")
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
def database_errors(path: Path, what: str, schema: str) -> Iterator[None]:
    """Turn errors of SQLite into one that names the file and what it is (``what``).

    Only a file that has the table of ``schema`` may be deleted; others may hold data that cannot be computed again.

    Raises:
        StoreError: the file cannot be read or written, is of another kind, or is corrupt.
    """
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise full_disk(path.parent) from None
        if code == sqlite3.SQLITE_IOERR:
            raise StoreError(
                f"{path}: cannot be read or written ({error}), as on a full disk. Finished work is "
                "kept: free some space and give the same command again"
            ) from None
        raise StoreError(f"{path}: the {what} cannot be used: {error}") from None
    except sqlite3.DatabaseError as error:
        if _was_made_here(path, schema):
            raise StoreError(
                f"{path}: a corrupt {what} ({error}). Delete the file; its content is computed again"
            ) from None
        raise StoreError(
            f"{path}: not a {what} ({error}). It was left as it is: give another path, or move the file away"
        ) from None


@contextmanager
def reading_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file for reading only."""
    with closing(_connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        yield db


def integrity(db: sqlite3.Connection) -> list[str]:
    """The problems that SQLite itself finds in a file."""
    return [found.decode() for (found,) in db.execute("PRAGMA integrity_check") if found != b"ok"]


def _head(path: Path) -> bytes:
    """The start of a file; in SQLite it holds the statements that made its tables."""
    with path.open("rb") as file:
        return file.read(_HEAD)


def _was_made_here(path: Path, schema: str) -> bool:
    try:
        head = _head(path)
    except OSError:
        return False
    return head.startswith(_MAGIC) and schema.replace("IF NOT EXISTS ", "").strip().encode() in head


def _has_other_tables(db: sqlite3.Connection, schema: str) -> bool:
    """Whether a database has tables, but not the one of ``schema``."""
    made = {" ".join(sql.decode().split()) for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
    return bool(made) and " ".join(schema.replace("IF NOT EXISTS ", "").split()) not in made


def _connect(name: str, uri: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(name, timeout=60, uri=uri)
    # A blob that was changed into text may not be UTF-8.
    db.text_factory = bytes
    return db

"""Files that are complete or absent: atomic writes, Parquet tables, digests, locks, and errors of a full disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seralign.errors import BusyError, StoreError
from seralign.runs.layout import LOCK


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a temporary file next to ``path``, then rename it to ``path``."""
    part = path.with_name(path.name + ".tmp")
    try:
        write(part)
        sync(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically. NaN and infinity are not allowed; a missing figure is null."""
    write_atomic(
        path, lambda part: part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    )


# Rows of a table that are held in memory while they are compressed.
_ROW_GROUP = 100_000


def write_table(path: Path, columns: dict[str, Any]) -> None:
    """Write a Parquet table atomically from columns of equal length."""
    table = pa.table(columns)
    write_atomic(path, lambda part: pq.write_table(table, part, compression="zstd", row_group_size=_ROW_GROUP))


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet table.

    Raises:
        StoreError: the file is missing or corrupt.
    """
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def read_parts(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    """Read columns of a Parquet table in parts, at least one, of which one is in memory at a time.

    Raises:
        StoreError: the file is missing or corrupt.
    """
    try:
        with pq.ParquetFile(path) as file:
            yield file.schema_arrow.empty_table().select(columns)
            for batch in file.iter_batches(_ROW_GROUP, columns=columns):
                yield pa.Table.from_batches([batch]).select(columns)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def read_stream(path: Path) -> pa.Table:
    """Read a table of pairs or prompts (an Arrow stream), memory-mapped.

    Raises:
        StoreError: the file is missing or corrupt.
    """
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_stream(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Lock a run's folder for one process; the lock is released when the process ends.

    Raises:
        BusyError: another process works in the folder.
        StoreError: the lock file cannot be created.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / LOCK).open("w")
    except IsADirectoryError:
        raise StoreError(f"{root / LOCK} is a folder, but must be the run's lock file; remove it") from None
    except OSError as error:
        raise _no_write(root, error) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{root}: another process is working on this run") from None
        yield


def is_locked(root: Path) -> bool:
    """Whether a process works in a folder that it has locked; nothing is made there."""
    try:
        lock = (root / LOCK).open("rb")
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def partial_folder(path: Path, maker: str) -> Iterator[None]:
    """Lock the folder ``X.partial``, which holds an unfinished result, for one process.

    Creates the folder, or continues in the one that a killed process of the same command left, with its content. A file
    in the folder names the command. A folder without that file is not touched unless it is empty.

    Args:
        path: The folder.
        maker: The command that makes such folders, ``seralign merge``.

    Raises:
        StoreError: the folder exists, and this command did not create it.
        BusyError: another process works in the folder.
    """
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        _check_own(path, maker)
    gone = BusyError(f"{path}: another process was writing there and has ended; give the same command again")
    try:
        owner = (path / _OWNER).open("a+", encoding="utf-8")
    except FileNotFoundError:
        raise gone from None
    with owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{path}: another process is writing there; wait for it, or give another --out") from None
        if not os.fstat(owner.fileno()).st_nlink:
            raise gone
        owner.truncate(0)
        owner.write(maker)
        owner.flush()
        yield


def _check_own(path: Path, maker: str) -> None:
    folder = path.is_dir() and not path.is_symlink()
    try:
        # A process that was killed right at its start leaves an empty folder or an empty file.
        if folder and (not any(path.iterdir()) or (path / _OWNER).read_text(encoding="utf-8") in ("", maker)):
            return
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    raise StoreError(
        f"{path} already exists and is not from an interrupted {maker}, which needs this folder for unfinished work; "
        "move it away, or give another --out"
    )


# A file in a folder of unfinished work that names the command that made it.
_OWNER = ".seralign"


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn a failed write (full disk, quota, limit on file size, no permission) into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or error.errno in _REFUSED:
            raise _no_write(root, error) from None
        raise
    except Exception as error:
        # Libraries that write files raise their own errors: safetensors with the system's message, torch.save without.
        for code in (*_FULL, errno.EIO):
            if os.strerror(code) in str(error):
                raise _no_write(root, OSError(code, os.strerror(code))) from None
        if any(word in str(error) for word in _TORCH_SAVE):
            raise StoreError(
                f"{root}: a checkpoint could not be written; perhaps the disk is full (torch gives no reason). {_KEPT}"
            ) from None
        raise


def full_disk(root: Path) -> StoreError:
    """The error for a full disk."""
    return _no_write(root, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


# System errors for a lack of space, and for other refused writes.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.EIO,
)
# Parts of the messages of torch.save when a write fails at different times.
_TORCH_SAVE = ("PytorchStreamWriter", "inline_container", "iostream error")
_KEPT = "Finished work is kept: free some space and give the same command again"


def _no_write(root: Path, error: OSError) -> StoreError:
    match error.errno:
        case errno.ENOSPC:
            return StoreError(f"{root}: the disk is full. {_KEPT}")
        case errno.EDQUOT:
            return StoreError(f"{root}: the disk quota is used up. {_KEPT}")
        case errno.EFBIG:
            return StoreError(
                f"{root}: a file would exceed the limit on file size (ulimit -f). Finished work is kept: raise the "
                "limit and give the same command again"
            )
        case errno.EIO:
            return StoreError(f"{root}: the disk reports an error ({_where(error)}). {_KEPT}")
    return StoreError(f"{root}: cannot be written: {_where(error)}")


def _where(error: OSError) -> str:
    return f"{error.strerror or error}" + (f", {error.filename}" if error.filename else "")


def _unreadable(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{path}: {error}. Delete the folder {path.parent} and all later stages; the same command runs them again"
    )


def sync(path: Path) -> None:
    """Write a file or folder to the disk before continuing."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

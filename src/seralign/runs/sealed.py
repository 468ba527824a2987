"""Files with a digest of their own content, so that a changed file is detected when it is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seralign.errors import StoreError
from seralign.runs.files import write_atomic, write_json

_SEAL = "sha256"
# Bytes of the line with the digest of a table.
_LINE = 65


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object atomically, with a key for the digest of its content."""
    plain = json.loads(json.dumps(content, allow_nan=False))
    write_json(path, plain | {_SEAL: _digest(plain)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a JSON object that ``write_sealed`` wrote.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: the file is of another kind, or has changed since it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict) or _SEAL not in content:
        raise ValueError(f"no JSON object with a digest ({_SEAL})")
    seal = content.pop(_SEAL)
    if seal != _digest(content):
        raise ValueError("its content does not match its digest, so it has changed since it was written")
    return content


def write_sealed_table(path: Path, columns: dict[str, Any]) -> None:
    """Write columns of equal length atomically: a line with a digest, then a Parquet file.

    This is for tables that a stage reads back before it is finished. The record of the stage does not exist yet then,
    and the checksums of Parquet do not cover its headers.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    data = sink.getvalue()

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(_line(data))
            file.write(data)

    write_atomic(path, write)


def read_sealed_table(path: Path) -> pa.Table:
    """Read a table that ``write_sealed_table`` wrote.

    Raises:
        StoreError: the file is missing, or has changed since it was written.
    """
    data = _unsealed(path)
    if data is None:
        raise StoreError(f"{path}: missing, or changed since it was written. Delete the file; it is written again")
    return pq.read_table(pa.BufferReader(data))


def is_sealed(path: Path) -> bool:
    """Whether the file exists and has not changed since ``write_sealed_table`` wrote it."""
    return _unsealed(path) is not None


def _unsealed(path: Path) -> pa.Buffer | None:
    try:
        with pa.memory_map(str(path)) as file:
            whole = file.read_buffer()
    except (OSError, pa.ArrowException):  # the latter for an empty file
        return None
    first = min(_LINE, len(whole))
    data = whole.slice(first)
    return data if whole.slice(0, first).to_pybytes() == _line(data) else None


def _line(data: pa.Buffer) -> bytes:
    return hashlib.sha256(data).hexdigest().encode() + b"\n"


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

"""Files that carry a digest of their own content, so that a file that was changed is never read as if it was not."""

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


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object atomically, with the digest of its content beside its keys."""
    plain = json.loads(json.dumps(content, allow_nan=False))
    write_json(path, plain | {_SEAL: _digest(plain)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a JSON object that ``write_sealed`` wrote.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no such file, or its content is not what was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict) or _SEAL not in content:
        raise ValueError(f"no JSON object with a digest ({_SEAL})")
    seal = content.pop(_SEAL)
    if seal != _digest(content):
        raise ValueError("its content does not fit its digest, so it was changed since it was written")
    return content


def write_sealed_table(path: Path, columns: dict[str, Any]) -> None:
    """Write equally long columns atomically: a line with a digest, then a Parquet file.

    For tables that a stage reads back before it is finished. The digests of a stage's record are not there yet, and
    Parquet's own checksums leave out its headers.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    write_atomic(path, lambda part: part.write_bytes(_line(data) + data))


def read_sealed_table(path: Path) -> pa.Table:
    """Read a table that ``write_sealed_table`` wrote.

    Raises:
        StoreError: the file is missing, or its content is not what was written.
    """
    data = _unsealed(path)
    if data is None:
        raise StoreError(f"{path}: missing, or changed since it was written. Delete the file; it is made again")
    return pq.read_table(pa.BufferReader(data))


def is_sealed(path: Path) -> bool:
    """Whether the file is there with the content that ``write_sealed_table`` wrote."""
    return _unsealed(path) is not None


def _unsealed(path: Path) -> bytes | None:
    try:
        line, _, data = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return data if line + b"\n" == _line(data) else None


def _line(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode() + b"\n"


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

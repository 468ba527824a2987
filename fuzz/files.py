"""Files of rows in every format, damaged at random."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fuzz.rows import PAIRS
from fuzz.target import Target
from fuzz.values import damaged, mutated, text
from seralign.config import SourceConfig
from seralign.data.sources import fingerprint, load_rows

SUFFIXES = [".jsonl", ".jsonl", ".jsonl", ".json", ".csv", ".csv", ".parquet"]


def _zst(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


_PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": _zst}


@dataclass(frozen=True)
class FileInput:
    """A file's name and bytes."""

    name: str
    content: bytes


def make(source: random.Random) -> FileInput:
    """A file with a few rows, valid before its bytes are damaged."""
    suffix = source.choice(SUFFIXES)
    rows = [mutated(source, source.choice(PAIRS)) for _ in range(source.randrange(4))]
    content = damaged(source, _content(source, suffix, rows))
    packed = source.choice(["", "", "", ".gz", ".bz2", ".xz", ".zst"])
    if packed:
        content = damaged(source, _PACKERS[packed](content))
    name = source.choice(["pairs", "pairs", "pa[i]rs", "pa*rs", "pa irs", "päirs"])
    return FileInput(f"{name}{suffix}{packed}", content)


def read(made: FileInput, folder: Path) -> None:
    """Read every row of the file."""
    path = folder / made.name
    path.write_bytes(made.content)
    try:
        source = SourceConfig(path=str(path))
        for _ in load_rows(source, "data.pairs"):
            pass
        fingerprint(source, "data.pairs")
    finally:
        path.unlink()


def _content(source: random.Random, suffix: str, rows: list[Any]) -> bytes:
    if suffix == ".jsonl":
        blank = source.choice(["\n", "\n\n", "\r\n"])
        return blank.join(json.dumps(row, ensure_ascii=source.random() < 0.5) for row in rows).encode(
            "utf-8", "surrogatepass"
        )
    if suffix == ".json":
        return json.dumps(rows, indent=source.choice([None, 1])).encode()
    if suffix == ".csv":
        table = io.StringIO()
        writer = csv.writer(table, lineterminator=source.choice(["\n", "\r\n"]))
        writer.writerow(["prompt", "chosen", "rejected", "p"][: source.randrange(1, 5)])
        for _ in rows:
            writer.writerow([text(source) for _ in range(source.choice([3, 3, 4, 2]))])
        return table.getvalue().encode("utf-8", "surrogatepass")
    sink = io.BytesIO()
    columns = {"prompt": ["a", "b"], "chosen": ["c", None], "rejected": ["d", "e"], "p": [0.5, None]}
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


FILES = Target("files", 0.12, make, read)

"""Where rows come from: a local file or a data set on the hub, read through ``datasets``.

``datasets`` names its cached copy of a local file by path and time stamp, so content edited within one time stamp,
or an edited archive, is read stale. Here each copy lives in a folder named by the digest of the file's bytes: equal
content is converted once and memory-mapped afterwards (memory stays flat), other content never meets the old copy.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import datasets
import datasets.config
from datasets.exceptions import DatasetsError

from seralign.config import SourceConfig
from seralign.data.formats import KNOWN_COLUMNS
from seralign.errors import ConfigError, DataError

# These readers, unlike datasets.load_dataset, ask the hub nothing, not even to count the load. In a CSV only an empty
# cell is null: "NA" and "None" are answers that people give.
READERS: dict[str, Callable[..., Any]] = {
    ".json": datasets.Dataset.from_json,
    ".jsonl": datasets.Dataset.from_json,
    ".csv": partial(datasets.Dataset.from_csv, keep_default_na=False, na_values=[""]),
    ".parquet": datasets.Dataset.from_parquet,
}
COMPRESSIBLE = {".json", ".jsonl", ".csv"}
EXTENSIONS = ".json, .jsonl, .csv (each also .gz), .parquet"


def load_rows(source: SourceConfig, key: str) -> datasets.Dataset:
    """The rows of a source, memory-mapped, with our column names, at most ``source.limit`` of them.

    Args:
        source: A local file or a name on the hub. No code that comes with a data set is ever run.
        key: Configuration key of the source, such as ``data.pairs``, for messages.

    Raises:
        DataError: No such file, an empty or broken one (a broken JSON line is named), an unknown extension, a hub
            data set that cannot be had, a missing split, a mapped column that the file lacks.
        ConfigError: A column mapping or another option of the source that cannot be honoured.
    """
    unknown = sorted(set(source.columns) - KNOWN_COLUMNS)
    if unknown:
        raise ConfigError(f"{key}.columns: unknown column {unknown[0]!r}; ours are {', '.join(sorted(KNOWN_COLUMNS))}")
    if source.limit is not None and source.limit < 1:
        raise ConfigError(f"{key}.limit must be at least 1, got {source.limit}")
    file = _local_file(source, key)
    rows = _load_hub(source, key) if file is None else _load_file(file, source, key)
    if len(rows) == 0:
        raise DataError(f"{source.path} ({key}) has no rows")
    rows = _rename(rows, source, key)
    return rows if source.limit is None else rows.select(range(min(source.limit, len(rows))))


def fingerprint(source: SourceConfig, key: str) -> str:
    """A digest of what the source holds: SHA-256 of a local file's bytes, or the commit of a hub data set.

    Raises:
        DataError: The file does not exist, or the hub data set cannot be had.
    """
    file = _local_file(source, key)
    if file is not None:
        return f"sha256:{_digest(file)}"
    try:
        builder = datasets.load_dataset_builder(source.path, source.name, revision=source.revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise _hub_error(source, key, error) from error
    # For a data set without code, datasets takes the resolved commit as the hash, online and from its cache alike.
    return f"hub:{builder.hash}"


def _suffix(path: Path) -> tuple[str, bool]:
    """The extension without .gz, and whether .gz follows it."""
    packed = path.suffix.lower() == ".gz"
    return (path.with_suffix("") if packed else path).suffix.lower(), packed


def _local_file(source: SourceConfig, key: str) -> Path | None:
    """The local file of a source, or None where the path is a hub name."""
    path = Path(source.path).expanduser()
    suffix, packed = _suffix(path)
    readable = suffix in READERS and (not packed or suffix in COMPRESSIBLE)
    if source.path and path.is_dir():
        raise DataError(f"{key}.path: {source.path} is a folder; give one file ({EXTENSIONS})")
    if not source.path or not path.exists():
        like_a_path = source.path.startswith((".", "/", "~")) or source.path.count("/") > 1 or "\\" in source.path
        if readable or packed or like_a_path or not source.path:
            raise DataError(f"{key}.path: no such file: {source.path!r}")
        return None
    if not readable:
        raise DataError(f"{key}.path: {source.path} has an unknown extension; known are {EXTENSIONS}")
    for option, default in (("name", None), ("split", "train"), ("revision", None)):
        if getattr(source, option) != default:
            raise ConfigError(f"{key}.{option} goes with a hub data set; {source.path} is a local file; leave it out")
    return path


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load_file(file: Path, source: SourceConfig, key: str) -> datasets.Dataset:
    if file.stat().st_size == 0:
        raise DataError(f"{source.path} ({key}) is empty")
    suffix, packed = _suffix(file)
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "seralign" / _digest(file)
    try:
        rows: datasets.Dataset = READERS[suffix](str(file), cache_dir=str(cache))
        # The JSON parser takes bytes that are no UTF-8 and leaves the error to whoever reads the row.
        rows.data.table.validate(full=True)
    # The builders of datasets leak what their parsers raise (StopIteration for a file without rows among others).
    except Exception as error:
        reason = _broken_json(file, packed) if suffix.startswith(".json") else None
        raise DataError(f"{source.path} ({key}) {reason or f'cannot be read: {_first_line(error)}'}") from error
    return rows


def _load_hub(source: SourceConfig, key: str) -> datasets.Dataset:
    try:
        rows = datasets.load_dataset(source.path, source.name, split=source.split, revision=source.revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise _hub_error(source, key, error) from error
    return cast(datasets.Dataset, rows)


def _hub_error(source: SourceConfig, key: str, error: Exception) -> DataError:
    return DataError(
        f"{key}.path: {source.path!r} is neither a file here nor a data set that can be had from the hub: "
        f"{_first_line(error)}"
    )


def _first_line(error: BaseException) -> str:
    """What went wrong at the root: datasets wraps the parser's error in one that says nothing."""
    root = error.__cause__ or error
    if "corresponds to no data" in str(root):
        return "it has no rows"
    lines = str(root).strip().splitlines()
    return lines[0] if lines else type(root).__name__


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(stream, start=1) if line.strip())


def _broken_json(file: Path, packed: bool) -> str | None:
    """What is wrong with a JSON file that failed to load, with the number of the line; None if nothing is found."""
    try:
        with cast(BinaryIO, gzip.open(file) if packed else file.open("rb")) as stream:
            start = stream.read(64).lstrip()
            stream.seek(0)
            if not start:
                return "has no rows"
            return _broken_list(stream.read()) if start.startswith(b"[") else _broken_line(stream)
    except (OSError, EOFError) as error:
        return f"cannot be read: {error}"


def _broken_list(content: bytes) -> str | None:
    try:
        rows = json.loads(content)
    except json.JSONDecodeError as error:
        return f"line {error.lineno} is not valid JSON: {error.msg} at column {error.colno}"
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"line {line} is not UTF-8 text"
    wrong = next((number for number, row in enumerate(rows, start=1) if not isinstance(row, dict)), None)
    return f"row {wrong} is not a JSON object" if wrong else None


def _broken_line(stream: BinaryIO) -> str | None:
    types: dict[str, tuple[type, int]] = {}
    for number, line in _lines(stream):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            return f"line {number} is not valid JSON: {error.msg} at column {error.colno}"
        except UnicodeDecodeError:
            return f"line {number} is not UTF-8 text"
        if not isinstance(row, dict):
            return f"line {number} is not a JSON object with the columns' names as keys"
        for name, value in row.items():
            kind = float if type(value) is int else type(value)
            first, first_line = types.setdefault(name, (kind, number)) if value is not None else (kind, number)
            if kind is not first:
                return f"line {number}: {name!r} is {kind.__name__}, but on line {first_line} it is {first.__name__}"
    return None


def _rename(rows: datasets.Dataset, source: SourceConfig, key: str) -> datasets.Dataset:
    for ours, theirs in source.columns.items():
        if theirs not in rows.column_names:
            raise DataError(
                f"{key}.columns.{ours}: {source.path} has no column {theirs!r}; it has {', '.join(rows.column_names)}"
            )
    taken = list(source.columns.values())
    if len(set(taken)) < len(taken):
        raise ConfigError(f"{key}.columns: a column of the file can have one name of ours only, got {source.columns}")
    # A column of the file that bears one of our names by accident gives way to the one mapped to it.
    hidden = [ours for ours in source.columns if ours in rows.column_names and ours not in taken]
    return rows.remove_columns(hidden).rename_columns({theirs: ours for ours, theirs in source.columns.items()})

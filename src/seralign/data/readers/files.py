"""Finds the files of a source: one file, several, a folder of shards, a glob, or a ``save_to_disk`` folder."""

from __future__ import annotations

import glob
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seralign.config import SourceConfig
from seralign.config.paths import expanded
from seralign.data.readers.json_rows import json_value
from seralign.data.readers.streams import OPENERS, decode, readable, reason
from seralign.errors import ConfigError, DataError

TEXT = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
KINDS = (*TEXT, ".parquet")
EXTENSIONS = ".json, .jsonl, .ndjson, .csv, .tsv (each also .gz, .bz2, .xz or .zst), .parquet"
SAVED = "saved"
# Words in a file name that name a split, as on the hub.
_SPLITS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "testing", "eval", "evaluation"},
}
_OTHER_PACKING = (".zip", ".lz4", ".7z", ".br", ".z")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows, or the folder of a saved dataset.

    ``name`` is the path as the user gave it, for messages. ``kind`` is one of ``KINDS``, or ``SAVED``. ``packing`` is
    one of ``streams.OPENERS``. ``remote`` is the path of a file that is read from the hub, as in ``HfFileSystem``.
    """

    path: Path
    name: str
    kind: str
    packing: str = ""
    remote: str | None = None


def local_files(source: SourceConfig, key: str) -> list[DataFile] | None:
    """The files of a source in reading order; None if the path is a hub name.

    Raises:
        DataError: A file does not exist or cannot be read.
        ConfigError: An option of the source applies only to hub datasets.
    """
    paths = [source.path] if isinstance(source.path, str) else source.path
    if not paths:
        raise DataError(f"{key}.path: the list of files is empty")
    if isinstance(source.path, str) and _may_be_hub_name(source.path, key):
        return None
    files = [file for path in paths for file in _expanded(path, source, key)]
    _check_twice(files, key)
    saved = any(file.kind == SAVED for file in files)
    for option, default in (("name", None), ("split", "train"), ("revision", None), ("streaming", False)):
        if getattr(source, option) != default and not (option == "split" and saved):
            raise ConfigError(f"{key}.{option} is for hub datasets, and {paths[0]} is local; leave {option} out")
    return files


def saved_files(folder: Path, name: str) -> list[Path]:
    """The Arrow files of a saved dataset, in order of rows."""
    parts = _note(folder / "state.json", "_data_files")
    names = [part.get("filename") if isinstance(part, dict) else None for part in parts]
    if not names or not all(isinstance(file, str) and Path(file).name == file for file in names):
        raise DataError(f"{name} cannot be read: its state.json names no data files")
    return [folder / str(file) for file in names]


def _may_be_hub_name(path: str, key: str) -> bool:
    like_a_path = path.startswith((".", "/", "~")) or path.count("/") > 1 or "\\" in path or glob.has_magic(path)
    kind, packing = file_format(Path(path))
    if not path or like_a_path or kind in KINDS or packing:
        return False
    return _status(path, f"{key}.path") is None


def _expanded(path: str, source: SourceConfig, key: str) -> list[DataFile]:
    """The files of one path. A path that exists is that file, whatever characters its name has."""
    where = f"{key}.path"
    place = Path(expanded(path))
    status = _status(str(place), where) if path else None
    if status is None and path and glob.has_magic(path):
        found = _matches(place)
        if not found:
            raise DataError(f"{where}: no file matches {path!r}")
        return [_file(match, where) for match in found]
    if status is None:
        raise DataError(f"{where}: no such file: {path!r}")
    if stat.S_ISDIR(status):
        return _folder(place, source, where)
    return [_file(place, where)]


def _matches(pattern: Path) -> list[Path]:
    """The files that match a glob, by name. The part of the path that exists is not a pattern."""
    there = next((parent for parent in pattern.parents if parent.is_dir()), Path())
    rest = str(pattern.relative_to(there)) if there != Path() else str(pattern)
    # Path.glob does not support escapes, and descends into links to folders.
    found = glob.glob(str(Path(glob.escape(str(there))) / rest), recursive=True)  # noqa: PTH207
    return sorted(path for path in map(Path, found) if path.is_file())


def _status(path: str, where: str) -> int | None:
    """The mode of a file; None if it does not exist."""
    try:
        return Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise DataError(f"{where}: {path} cannot be read: {reason(error)}") from None


def file_format(path: Path) -> tuple[str, str]:
    """The extension of the format, and that of the compression."""
    packing = path.suffix.lower() if path.suffix.lower() in OPENERS else ""
    return (path.with_suffix("") if packing else path).suffix.lower(), packing


def _file(path: Path, where: str) -> DataFile:
    kind, packing = file_format(path)
    if kind not in KINDS or (packing and kind not in TEXT):
        raise DataError(f"{where}: {path} has an unknown extension; known are {EXTENSIONS}")
    if not path.is_file():
        raise DataError(f"{where}: {path} is not a regular file")
    return DataFile(path, str(path), kind, packing)


def _folder(folder: Path, source: SourceConfig, where: str) -> list[DataFile]:
    try:
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise DataError(f"{where}: {folder} cannot be read: {reason(error)}") from None
    if "dataset_dict.json" in names:
        return [_split(folder, source, where)]
    if {"state.json", "dataset_info.json"} <= names:
        if source.split != "train":
            raise ConfigError(f"{where.removesuffix('path')}split: {folder} is one dataset without splits")
        return [DataFile(folder, str(folder), SAVED)]
    return _shards(folder, where)


def _split(folder: Path, source: SourceConfig, where: str) -> DataFile:
    """One split of a saved ``DatasetDict``."""
    splits = [name for name in _note(folder / "dataset_dict.json", "splits") if isinstance(name, str)]
    if source.split not in splits:
        key = where.removesuffix("path")
        raise DataError(f"{key}split: {folder} has no split {source.split!r}; it has {', '.join(splits)}")
    path = folder / source.split
    return DataFile(path, str(path), SAVED)


def _note(path: Path, key: str) -> list[Any]:
    """A list in one of the JSON files that ``datasets`` writes next to its tables."""
    with readable(str(path)):
        found = json_value(decode(path.read_bytes(), str(path)), str(path))
    listed = found.get(key) if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise DataError(f"{path} is damaged: it has no list {key!r}")
    return listed


def _shards(folder: Path, where: str) -> list[DataFile]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "_")))
    for entry in entries:
        if entry.suffix.lower() in _OTHER_PACKING and file_format(entry.with_suffix(""))[0] in KINDS:
            raise DataError(f"{where}: {entry} has an unsupported compression; known are {EXTENSIONS}")
    files = [_file(entry, where) for entry in entries if not entry.is_dir() and file_format(entry)[0] in KINDS]
    deeper = next((entry for entry in entries if entry.is_dir() and any(_data_below(entry))), None)
    if deeper is not None:
        raise DataError(
            f"{where}: the data files are in a subfolder of {folder}, {deeper.name}; give the folder with the "
            f"files, or a glob such as {folder}/**/*{next(_data_below(deeper)).suffix}"
        )
    if not files:
        raise DataError(f"{where}: the folder {folder} has no data files; known are {EXTENSIONS}")
    kinds = sorted({file.kind for file in files})
    if len(kinds) > 1:
        raise DataError(
            f"{where}: the folder {folder} mixes {' and '.join(kinds)} files; give the ones to read as a list, or as a "
            f"glob such as {folder}/*{kinds[-1]}"
        )
    splits = {split: file for file in reversed(files) if (split := _split_of(file.path))}
    if len(splits) > 1:
        some = " and ".join(sorted(file.path.name for file in splits.values()))
        raise DataError(
            f"{where}: the folder {folder} has files of several splits, {some}; give the ones to read as a list or as "
            "a glob"
        )
    return files


def _split_of(path: Path) -> str | None:
    words = re.split("[^a-z]+", path.name.lower())
    return next((split for split, names in _SPLITS.items() if names & set(words)), None)


def _data_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if file_format(path)[0] in KINDS and path.is_file())


def _check_twice(files: list[DataFile], key: str) -> None:
    seen: set[Path] = set()
    for file in files:
        path = file.path.resolve()
        if path in seen:
            raise DataError(f"{key}.path: {file.name} is listed twice")
        seen.add(path)

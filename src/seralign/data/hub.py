"""Datasets on the Hugging Face hub. ``datasets`` finds the files of a split; our own readers read them.

Code in a dataset is never run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import datasets.config
import huggingface_hub

from seralign.config import SourceConfig
from seralign.data.hub_errors import no_network, refusal
from seralign.data.readers.files import DELIMITERS, KINDS, DataFile, file_format
from seralign.errors import ConfigError, DataError
from seralign.hub import silence
from seralign.progress import say
from seralign.records import content_id
from seralign.runs.files import write_json

_DOWNLOADS = 8
# Fields that every builder configuration has; other fields are options of its reader.
_OF_ANY_CONFIG = {"name", "version", "data_dir", "data_files", "description", "features"}


@dataclass(frozen=True)
class HubSplit:
    """A split at a commit. ``files``: its files in the repository in the order of their rows; None if only
    ``datasets`` can read them.
    """

    commit: str
    files: tuple[str, ...] | None


def hub_rows(source: SourceConfig, key: str) -> list[DataFile] | datasets.Dataset:
    """The downloaded files of a split, or with ``streaming`` the files on the hub; or the table of the split, if only
    ``datasets`` can read the files.

    Raises:
        DataError: The dataset cannot be loaded, has no such split, or the cache cannot be written.
        ConfigError: It cannot be streamed.
    """
    split = _split(source, key)
    if source.streaming:
        return _remote_files(source, key, split)
    try:
        if split.files is None:
            load = datasets.load_dataset
            rows = load(str(source.path), source.name, split=source.split, revision=source.revision)
            return cast(datasets.Dataset, rows)
        with ThreadPoolExecutor(_DOWNLOADS) as pool:
            paths = list(pool.map(lambda name: _downloaded(source, split.commit, name), split.files))
    except Exception as error:
        raise refusal(source, key, error) from error
    # From here on the data can be read offline.
    with suppress(OSError):
        _note(source).parent.mkdir(parents=True, exist_ok=True)
        write_json(_note(source), asdict(split))
    return [
        DataFile(path, f"{source.path}/{name}", *file_format(Path(name)))
        for path, name in zip(paths, split.files, strict=True)
    ]


def _remote_files(source: SourceConfig, key: str, split: HubSplit) -> list[DataFile]:
    if split.files is None:
        raise ConfigError(
            f"{key}.streaming: only .json, .jsonl, .ndjson, .csv, .tsv and .parquet files without options of a reader "
            f"can be streamed, and {source.path} has others; leave streaming out"
        )
    base = f"datasets/{source.path}@{split.commit}"
    return [
        DataFile(Path(name), f"{source.path}/{name}", *file_format(Path(name)), remote=f"{base}/{name}")
        for name in split.files
    ]


def hub_fingerprint(source: SourceConfig, key: str) -> str:
    """The commit of a hub dataset. Errors as ``hub_rows``."""
    return f"hub:{_split(source, key).commit}"


def _split(source: SourceConfig, key: str) -> HubSplit:
    load = datasets.load_dataset_builder
    silence()  # a hub that does not answer is found out at once, and not asked again
    try:
        builder = load(str(source.path), source.name, revision=source.revision)
        # This looks up the files.
        files: Any = builder.config.data_files
    except Exception as error:
        kept = _kept(source) if no_network(error) else None
        if kept is None:
            raise refusal(source, key, error) from error
        return kept
    if not files:
        # Offline: a table in the cache of datasets.
        return _kept(source) or HubSplit(str(builder.hash), None)
    found = next((files[split] for split in files if str(split) == source.split), None)
    if found is None:
        raise DataError(
            f"{key}.split: {source.path} has no split {source.split!r}; it has {', '.join(map(str, files))}"
            + (f" (for the first rows of a split, set {key}.limit)" if "[" in source.split else "")
        )
    base = f"{builder.base_path}/"
    names = [str(url).removeprefix(base) for url in found]
    kinds = {file_format(Path(name))[0] for name in names}
    here = all(str(url).startswith(base) for url in found) and kinds <= {*KINDS}
    options = _options(builder.config, kinds) if here else ()
    if options:
        say(
            f"{key}: {source.path} sets {', '.join(options)} for its files, so they are read by datasets, which "
            "guesses the types of CSV and JSON values"
        )
    # For a dataset without code, datasets uses the resolved commit as the hash.
    return HubSplit(str(builder.hash), tuple(names) if here and not options else None)


def _options(config: datasets.BuilderConfig, kinds: set[str]) -> tuple[str, ...]:
    """Reader options that a dataset card sets; our readers have none."""
    usual = type(config)()
    delimiters = {DELIMITERS[kind] for kind in kinds if kind in DELIMITERS}
    names = [field.name for field in dataclasses.fields(config) if field.name not in _OF_ANY_CONFIG]
    given = [name for name in names if getattr(config, name) != getattr(usual, name)]
    return tuple(name for name in given if not (name == "sep" and {cast(Any, config).sep} == delimiters))


def _downloaded(source: SourceConfig, commit: str, name: str) -> Path:
    path = huggingface_hub.hf_hub_download(str(source.path), name, repo_type="dataset", revision=commit)
    return Path(cast(str, path))


def _note(source: SourceConfig) -> Path:
    """The file that records the files of a split at the last download, next to the cache of ``datasets``."""
    asked: Sequence[object] = (source.path, source.name, source.split, source.revision)
    return Path(datasets.config.HF_DATASETS_CACHE) / "seralign" / f"{content_id([*asked])}.json"


def _kept(source: SourceConfig) -> HubSplit | None:
    try:
        note = json.loads(_note(source).read_text(encoding="utf-8"))
        commit, files = note["commit"], note["files"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return HubSplit(str(commit), tuple(map(str, files)))

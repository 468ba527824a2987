"""Data sets on the Hugging Face hub. ``datasets`` says which files a split has, and our own readers read them.

No code that comes with a data set is ever run.
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
from seralign.errors import DataError
from seralign.progress import say
from seralign.records import content_id
from seralign.runs.files import write_json

_DOWNLOADS = 8
# What every configuration of ``datasets`` has; the other fields are options of its readers.
_OF_ANY_CONFIG = {"name", "version", "data_dir", "data_files", "description", "features"}


@dataclass(frozen=True)
class HubSplit:
    """A split at a commit. ``files``: its files in the repository, in the order of their rows; None where they are of
    a format that ``datasets`` alone reads.
    """

    commit: str
    files: tuple[str, ...] | None


def hub_rows(source: SourceConfig, key: str) -> list[DataFile] | datasets.Dataset:
    """The files of a split, downloaded; or its table, where ``datasets`` alone can read them.

    Raises:
        DataError: It cannot be had, has no such split, or the cache cannot be written.
    """
    split = _split(source, key)
    try:
        if split.files is None:
            load = datasets.load_dataset
            rows = load(str(source.path), source.name, split=source.split, revision=source.revision)
            return cast(datasets.Dataset, rows)
        with ThreadPoolExecutor(_DOWNLOADS) as pool:
            paths = list(pool.map(lambda name: _downloaded(source, split.commit, name), split.files))
    except Exception as error:
        raise refusal(source, key, error) from error
    # From now on the data can be read without a network.
    with suppress(OSError):
        _note(source).parent.mkdir(parents=True, exist_ok=True)
        write_json(_note(source), asdict(split))
    return [
        DataFile(path, f"{source.path}/{name}", *file_format(Path(name)))
        for path, name in zip(paths, split.files, strict=True)
    ]


def hub_fingerprint(source: SourceConfig, key: str) -> str:
    """The commit of a hub data set. Errors as ``hub_rows``."""
    return f"hub:{_split(source, key).commit}"


def _split(source: SourceConfig, key: str) -> HubSplit:
    load = datasets.load_dataset_builder
    try:
        builder = load(str(source.path), source.name, revision=source.revision)
        # It looks the files up now.
        files: Any = builder.config.data_files
    except Exception as error:
        kept = _kept(source) if no_network(error) else None
        if kept is None:
            raise refusal(source, key, error) from error
        return kept
    if not files:
        # Without a network, a table that datasets itself has in its cache.
        return _kept(source) or HubSplit(str(builder.hash), None)
    found = next((files[split] for split in files if str(split) == source.split), None)
    if found is None:
        raise DataError(
            f"{key}.split: {source.path} has no split {source.split!r}; it has {', '.join(map(str, files))}"
            + (f" (for the first rows of one, give {key}.limit)" if "[" in source.split else "")
        )
    base = f"{builder.base_path}/"
    names = [str(url).removeprefix(base) for url in found]
    kinds = {file_format(Path(name))[0] for name in names}
    here = all(str(url).startswith(base) for url in found) and kinds <= {*KINDS}
    options = _options(builder.config, kinds) if here else ()
    if options:
        say(
            f"{key}: {source.path} gives {', '.join(options)} for its files, so datasets reads them, which guesses the "
            "types of CSV and JSON"
        )
    # For a data set without code, datasets takes the resolved commit as the hash.
    return HubSplit(str(builder.hash), tuple(names) if here and not options else None)


def _options(config: datasets.BuilderConfig, kinds: set[str]) -> tuple[str, ...]:
    """Options of a reader that a data set's card gives; our readers have none."""
    usual = type(config)()
    delimiters = {DELIMITERS[kind] for kind in kinds if kind in DELIMITERS}
    names = [field.name for field in dataclasses.fields(config) if field.name not in _OF_ANY_CONFIG]
    given = [name for name in names if getattr(config, name) != getattr(usual, name)]
    return tuple(name for name in given if not (name == "sep" and {cast(Any, config).sep} == delimiters))


def _downloaded(source: SourceConfig, commit: str, name: str) -> Path:
    path = huggingface_hub.hf_hub_download(str(source.path), name, repo_type="dataset", revision=commit)
    return Path(cast(str, path))


def _note(source: SourceConfig) -> Path:
    """Where it is kept which files a split had when it was last downloaded, beside the files of ``datasets``."""
    asked: Sequence[object] = (source.path, source.name, source.split, source.revision)
    return Path(datasets.config.HF_DATASETS_CACHE) / "seralign" / f"{content_id([*asked])}.json"


def _kept(source: SourceConfig) -> HubSplit | None:
    try:
        note = json.loads(_note(source).read_text(encoding="utf-8"))
        commit, files = note["commit"], note["files"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return HubSplit(str(commit), tuple(map(str, files)))

"""Data sets on the Hugging Face hub, read through ``datasets``. No code that comes with one is ever run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import datasets
import datasets.config
import huggingface_hub.constants
from datasets.exceptions import DatasetsError

from seralign.config import SourceConfig
from seralign.data.readers.streams import reason
from seralign.errors import DataError

T = TypeVar("T")


def load_hub(source: SourceConfig, key: str) -> datasets.Dataset:
    """A split of a hub data set, memory-mapped from the cache of ``datasets``.

    Raises:
        DataError: It cannot be had, has no such split, or the cache cannot be written.
    """
    load = datasets.load_dataset
    rows = _asked(
        source, key, lambda: load(str(source.path), source.name, split=source.split, revision=source.revision)
    )
    return cast(datasets.Dataset, rows)


def hub_fingerprint(source: SourceConfig, key: str) -> str:
    """The commit of a hub data set. Errors as ``load_hub``."""
    load = datasets.load_dataset_builder
    builder = _asked(source, key, lambda: load(str(source.path), source.name, revision=source.revision))
    # For a data set without code, datasets takes the resolved commit as the hash, online and from its cache alike.
    return f"hub:{builder.hash}"


def _asked(source: SourceConfig, key: str, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        _check_caches()
        # datasets wraps the cause in an error that says nothing.
        why = reason(error.__cause__ or error)
        raise DataError(
            f"{key}.path: {source.path!r} is neither a file here nor a data set that can be had from the hub: {why}"
        ) from error


def _check_caches() -> None:
    caches = {
        "HF_DATASETS_CACHE": datasets.config.HF_DATASETS_CACHE,
        "HF_HUB_CACHE": huggingface_hub.constants.HF_HUB_CACHE,
    }
    for variable, folder in caches.items():
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder)
            os.close(handle)
            Path(name).unlink()
        except OSError as error:
            raise DataError(
                f"{variable} ({folder}) cannot be written; set it to a folder that can be ({reason(error)})"
            ) from None

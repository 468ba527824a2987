"""Turns a failure to load a hub dataset into one error that names the key."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import datasets.config
import huggingface_hub.constants
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub.errors import LocalEntryNotFoundError

from seralign.config import SourceConfig
from seralign.data.readers.streams import reason
from seralign.errors import DataError
from seralign.hub import silence

_LOG_IN = "log in with hf auth login, or set HF_TOKEN"


def no_network(error: BaseException) -> bool:
    """Whether the hub could not be reached, or offline mode is on."""
    # On a broken connection huggingface_hub raises the error of its HTTP library.
    broken = type(error).__module__.partition(".")[0].startswith("http")
    return broken or isinstance(error, ConnectionError | LocalEntryNotFoundError | TimeoutError)


def refusal(source: SourceConfig, key: str, error: Exception) -> DataError:
    """Return the error for a dataset that cannot be loaded, without raising it.

    Raises:
        DataError: A cache cannot be written, so the dataset is not the cause.
    """
    _check_caches()
    path, text = source.path, reason(error)
    if no_network(error):
        why = silence() or text
        return DataError(
            f"{key}.path: there is no file {path!r} here, and the hub cannot be reached: {why}. After a first "
            "download, a dataset can be read offline"
        )
    if "gated dataset" in text:
        page = f"{huggingface_hub.constants.ENDPOINT}/datasets/{path}"
        return DataError(f"{key}.path: {path!r} is gated: request access at {page}, then {_LOG_IN}")
    if isinstance(error, DatasetNotFoundError) and text.startswith("Revision"):
        return DataError(f"{key}.revision: {path!r} has no revision {source.revision!r} on the hub")
    if isinstance(error, DatasetNotFoundError):
        return DataError(
            f"{key}.path: {path!r} is neither a file here nor a dataset on the hub that you may read; give the path of "
            f"a file, or the dataset's name as owner/name. For a private dataset, {_LOG_IN}"
        )
    listed = re.search(r"\[('[^\]]*)\]", str(error))
    if listed is not None and ("BuilderConfig" in text or "Config name is missing" in text):
        names = listed[1].replace("'", "")
        what = "needs the name of a configuration" if source.name is None else f"has no configuration {source.name!r}"
        return DataError(f"{key}.name: {path!r} {what}; it has {names}")
    # datasets wraps the cause in an uninformative error.
    why = reason(error.__cause__ or error)
    return DataError(f"{key}.path: there is no file {path!r} here, and the hub dataset cannot be loaded: {why}")


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
                f"{variable} ({folder}) cannot be written; set it to a writable folder ({reason(error)})"
            ) from None

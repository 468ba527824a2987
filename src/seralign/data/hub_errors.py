"""What kept a data set from being had from the hub, as one error that names the key."""

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

_LOG_IN = "log in with hf auth login, or set HF_TOKEN"


def no_network(error: BaseException) -> bool:
    """Whether the hub could not be reached, or was not to be."""
    # What huggingface_hub raises where a connection breaks off is of whatever library it uses.
    broken = type(error).__module__.partition(".")[0].startswith("http")
    return broken or isinstance(error, ConnectionError | LocalEntryNotFoundError | TimeoutError)


def refusal(source: SourceConfig, key: str, error: Exception) -> DataError:
    """The error of a data set that cannot be had. It is returned, not raised.

    Raises:
        DataError: A cache cannot be written, which is not the data set's fault.
    """
    _check_caches()
    path, text = source.path, reason(error)
    if no_network(error):
        return DataError(
            f"{key}.path: {path!r} is no file here, and the hub cannot be asked for a data set of that name: {text}. "
            "Once downloaded, a data set can be read without a network"
        )
    if "gated dataset" in text:
        page = f"{huggingface_hub.constants.ENDPOINT}/datasets/{path}"
        return DataError(f"{key}.path: {path!r} is gated: ask for access on {page}, then {_LOG_IN}")
    if isinstance(error, DatasetNotFoundError) and text.startswith("Revision"):
        return DataError(f"{key}.revision: {path!r} has no revision {source.revision!r} on the hub")
    if isinstance(error, DatasetNotFoundError):
        return DataError(
            f"{key}.path: {path!r} is neither a file here nor a data set on the hub that you may read; give the path "
            f"of a file, or the data set's name as owner/name. For a private one {_LOG_IN}"
        )
    listed = re.search(r"\[('[^\]]*)\]", str(error))
    if listed is not None and ("BuilderConfig" in text or "Config name is missing" in text):
        names = listed[1].replace("'", "")
        what = "needs a configuration's name" if source.name is None else f"has no configuration {source.name!r}"
        return DataError(f"{key}.name: {path!r} {what}; it has {names}")
    # datasets wraps the cause in an error that says nothing.
    why = reason(error.__cause__ or error)
    return DataError(f"{key}.path: {path!r} is no file here, and cannot be had from the hub: {why}")


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

"""Giving back the memory of models that are no longer used."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

import torch

# Looking for garbage takes a tenth of a second, which is more than small models are worth.
_WORTH = 2**26


def free() -> None:
    """Give back the memory of what nothing names any more.

    A model holds itself by cycles of references: without this it stays until Python happens to look for them, and the
    next ones are loaded beside it.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc keeps what is freed; other systems need no such word
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_before(folder: Path) -> None:
    """``free``, before a model is loaded from a folder, unless it is small."""
    if sum(file.stat().st_size for file in folder.glob("*.safetensors")) >= _WORTH:
        free()

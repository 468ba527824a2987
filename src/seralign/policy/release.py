"""Freeing the memory of models and tables that are no longer used."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import torch

# Garbage collection takes a tenth of a second, too much for small models.
_WORTH = 2**26


def free() -> None:
    """Free the memory of everything that is no longer referenced.

    A model holds itself in reference cycles. Without this call it stays until Python collects them, while the next
    model is already being loaded.
    """
    gc.collect()
    trim()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def trim() -> None:
    """Return freed main memory to the system."""
    with suppress(OSError, AttributeError):  # glibc keeps freed memory; other systems do not have this function
        ctypes.CDLL(None).malloc_trim(0)
    pa.default_memory_pool().release_unused()


def use_system_pool() -> None:
    """Let Arrow allocate with the C library, whose freed memory ``trim`` returns to the system.

    Arrow's default allocator keeps what large tables took: over a hundred megabytes after 100,000 pairs. Importing
    seralign has chosen the pool of the C library already, unless pyarrow was imported before. Another pool that the
    user chose by ``ARROW_DEFAULT_MEMORY_POOL`` stays.
    """
    if (os.environ.get("ARROW_DEFAULT_MEMORY_POOL") or "system") == "system":
        pa.default_memory_pool().release_unused()
        pa.set_memory_pool(pa.system_memory_pool())


def free_before(folder: Path) -> None:
    """Call ``free`` before loading a model from a folder, unless the model is small."""
    if sum(file.stat().st_size for file in folder.glob("*.safetensors")) >= _WORTH:
        free()

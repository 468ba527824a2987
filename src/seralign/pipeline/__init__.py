"""Runs: rounds and their stages in order, recorded and resumable. No other package knows the order.

``train`` and ``RunResult`` are imported on first use, so that modules without torch load without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seralign.pipeline.run import RunResult, train

__all__ = ["RunResult", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'seralign.pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module("seralign.pipeline.run"), name)

"""Paths as users write them."""

from __future__ import annotations

import os


def expanded(path: str) -> str:
    """A path with ``~`` replaced by the home folder; unchanged if there is none, so that a later error names the path
    as it was given."""
    return os.path.expanduser(path)  # noqa: PTH111, pathlib raises where there is no such home

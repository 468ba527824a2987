"""Paths as people write them."""

from __future__ import annotations

import os


def expanded(path: str) -> str:
    """A path with ``~`` replaced by the home folder; as it is where there is no such home, so that the error that
    follows names the path that was given."""
    return os.path.expanduser(path)  # noqa: PTH111, pathlib raises where there is no such home

"""The configuration of a cell of a study. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from seralign.config import RunConfig, load_config
from seralign.config.unread import unread_keys
from seralign.errors import ConfigError


def cell_config(overrides: Mapping[str, Any], out: Path) -> RunConfig:
    """The run of a cell. Of the keys that all methods share, those that it would not read keep their defaults."""
    given = {**overrides, "out": str(out)}
    config = load_config(None, given)
    unread = {found.key: found.default for found in unread_keys(config)}
    return load_config(None, given | unread) if unread else config


def check_own_keys(overrides: Mapping[str, Any], own: Collection[str], where: str) -> None:
    """Refuse keys of a method itself that its runs would not read.

    Args:
        overrides: All keys of a run.
        own: Those that the method gives.
        where: The key of the method.

    Raises:
        ConfigError: there is one; names it.
    """
    for found in unread_keys(load_config(None, {**overrides, "out": "run"})):
        if any(found.key == key or found.key.startswith(f"{key}.") for key in own):
            raise ConfigError(f"{where}: {found.key}: {found.why}")

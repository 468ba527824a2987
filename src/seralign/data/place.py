"""A row's location, how its source is read, and the notes collected while it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from seralign.config import DataConfig
from seralign.errors import DataError


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rows of a source are read. ``key`` is its configuration key, for messages."""

    key: str = "data.pairs"
    as_chat: bool = False
    format: Literal["auto", "hh"] = "auto"
    roles: Mapping[str, str] = field(default_factory=dict)


def reading(data: DataConfig, key: str) -> Reading:
    """The settings of the configuration for reading a source."""
    return Reading(key, data.as_chat, data.format, data.roles)


@dataclass(frozen=True, slots=True)
class Place:
    """A row: its file and number, how it is read, the notes collected so far, and the unused keys of its messages."""

    where: str
    reading: Reading
    notes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def error(self, message: str) -> DataError:
        """An error that names the row."""
        return DataError(f"{self.where}: {message}")

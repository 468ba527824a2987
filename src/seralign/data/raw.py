"""A row that was read and is not yet tokenized: an example, a prompt, or nothing that can be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seralign.data.content import NOTHING, Content, Inputs
from seralign.records import Preference


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that is left out, and why; counted, never an error."""

    reason: str
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RawExample:
    """An example before tokens: a prompt, its responses, and a preference over them; the chosen one of a pair is first.

    ``named``: ``example_id`` was given in the row, else it is the digest of prompt and responses. ``where`` is the file
    and the row, for messages; ``unread`` the row's columns that were not read; ``notes`` what is to be counted;
    ``carried`` the values of the columns that ``data.keep_columns`` names, as text.
    """

    example_id: str
    prompt: Content
    responses: tuple[Content, ...]
    preference: Preference
    weight: float
    named: bool
    where: str
    inputs: Inputs = NOTHING
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    carried: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt alone."""

    prompt: Content
    where: str
    inputs: Inputs = NOTHING
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

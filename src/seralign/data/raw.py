"""A row after reading and before tokenization: an example, a prompt, or a row that is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seralign.data.content import NOTHING, Content, Inputs
from seralign.records import Preference


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that is dropped, and the reason. Dropped rows are counted; they are not errors."""

    reason: str
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RawExample:
    """An example before tokenization: a prompt, its responses and a preference over them; a pair has chosen first.

    ``named``: the row gave ``example_id``; else it is the digest of prompt and responses. ``where`` names the file and
    the row in messages. ``unread`` are the unused columns of the row. ``notes`` are counted. ``carried`` are the values
    of the columns in ``data.keep_columns``, as text.
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
    """A prompt without responses."""

    prompt: Content
    where: str
    inputs: Inputs = NOTHING
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

"""A row that was read and is not yet tokenized: a pair, a demonstration, a prompt, or nothing that can be used."""

from __future__ import annotations

from dataclasses import dataclass

from seralign.data.content import NOTHING, Content, Inputs


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that is left out, and why; counted, never an error."""

    reason: str
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RawPair:
    """A pair before tokens, the better response in ``chosen``.

    ``p`` in (0.5, 1]; ``swapped``: the row had the two the other way round. ``named``: ``pair_id`` was given in the
    row, else it is the digest of prompt, chosen and rejected. ``where`` is the file and the row, for messages;
    ``unread`` the row's columns that were not read; ``notes`` what is to be counted.
    """

    pair_id: str
    prompt: Content
    chosen: Content
    rejected: Content
    p: float
    weight: float
    swapped: bool
    named: bool
    where: str
    inputs: Inputs = NOTHING
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RawDemonstration:
    """A prompt with a response to imitate."""

    pair_id: str
    prompt: Content
    response: Content
    weight: float
    named: bool
    where: str
    inputs: Inputs = NOTHING
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt alone."""

    prompt: Content
    where: str
    inputs: Inputs = NOTHING
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

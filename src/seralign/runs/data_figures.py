"""The figures of the stage ``data``: what became of the rows of each source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Lengths:
    """Numbers of tokens."""

    min: int
    median: float
    p95: float
    max: int


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """What became of a source's rows.

    ``read`` = ``kept`` + the sum of ``dropped``. ``noted`` counts the notes on kept rows; a row can have several.
    ``lengths``: of ``prompt``, of ``chosen`` and ``rejected`` of pairs, and of ``response`` of other examples, as far
    as the rows have them. ``soft``: share of kept rows that are pairs with p < 1. ``unread``: columns that no row was
    read from. ``remarks``: what a reader of the data should know. ``converted``: counts of the examples that were
    joined by prompt, made by ``data.convert``, or left out by it. ``first``: the first row with each reason to drop it,
    and with each note; with the characters, if the tokenizer drops them.
    """

    source: str
    read: int
    kept: int
    dropped: dict[str, int]
    noted: dict[str, int]
    lengths: dict[str, Lengths]
    soft: float
    unread: tuple[str, ...]
    remarks: tuple[str, ...]
    converted: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def located(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Counts of reasons or notes, each with the first row: ``tie (first FILE row 3)``."""
        return located(counts, self.first)

    @property
    def what(self) -> str:
        """What the rows of ``data.pairs`` are: ``pairs``, or ``examples`` if some have another form."""
        return "examples" if "response" in self.lengths else "pairs"


def located(counts: Mapping[str, int], first: Mapping[str, str]) -> dict[str, int]:
    """Counts of reasons or notes, each with its first row, where that is known."""
    return {f"{what} (first {first[what]})" if what in first else what: count for what, count in counts.items()}


@dataclass(frozen=True, slots=True)
class DataFigures:
    """Of ``data``: pairs to train on and held out, prompts that are in both, and each source by its name."""

    pairs: int
    heldout: int
    heldout_prompts_also_trained_on: int
    sources: dict[str, SourceFigures]

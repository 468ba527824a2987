"""Counts of the rows of a source while they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from seralign.data.columns import listed_names
from seralign.data.markers import is_hh
from seralign.data.raw import RawExample, RawPrompt
from seralign.data.tokens import Encoded
from seralign.errors import DataError
from seralign.records import Pair
from seralign.runs.data_figures import Lengths, SourceFigures, located

PLAIN_ON_CHAT = (
    "the tokenizer's chat template is not used for plain text (set data.as_chat: true to make conversations of it)"
)
HH_ON_CHAT = (
    "the tokenizer's chat template is not used for texts with turns of Human: and Assistant: (set data.format: hh to "
    "read them as conversations)"
)


@dataclass(slots=True)
class Tally:
    """Counts, updated row by row.

    ``first``: the first row with each reason to drop it, with the characters if they are the reason; and the first row
    with each note.
    """

    source: str
    has_template: bool
    kept: int = 0
    soft: int = 0
    plain: int = 0
    hh: int = 0
    unread: dict[str, None] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, Counter[int]] = field(default_factory=dict)

    def drop(self, reason: str, where: str) -> None:
        self.dropped[reason] += 1
        self.first.setdefault(reason, where)

    def keep(self, raw: RawExample | RawPrompt, notes: Iterable[str], encoded: Encoded) -> None:
        preference = raw.preference if isinstance(raw, RawExample) else None
        self.kept += 1
        self.soft += isinstance(preference, Pair) and preference.p < 1.0
        if isinstance(raw.prompt, str):
            self.plain += 1
            self.hh += is_hh(raw.prompt)
        for note in (*raw.notes, *notes):
            self.noted[note] += 1
            self.first.setdefault(note, raw.where)
        count = len(encoded.response_ids)
        sides = ("chosen", "rejected") if isinstance(preference, Pair) else ("response",) * count
        for name, ids in zip(("prompt", *sides), (encoded.prompt_ids, *encoded.response_ids), strict=True):
            self.lengths.setdefault(name, Counter())[len(ids)] += 1

    def report(self) -> SourceFigures:
        read = self.kept + self.dropped.total()
        if not self.kept:
            reasons = located(dict(self.dropped.most_common()), self.first)
            counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            unread = f"; columns not read: {listed_names(self.unread)}" if self.unread else ""
            raise DataError(f"{self.source}: none of its {read} rows can be used: {counts}{unread}")
        return SourceFigures(
            source=self.source,
            read=read,
            kept=self.kept,
            dropped=dict(self.dropped.most_common()),
            noted=dict(self.noted.most_common()),
            lengths={name: _summary(counts) for name, counts in self.lengths.items()},
            soft=self.soft / self.kept,
            unread=tuple(self.unread),
            remarks=self._remarks() if self.has_template else (),
            first=self.first,
        )

    def _remarks(self) -> tuple[str, ...]:
        """How plain text could be read as conversations, which the chat template is for."""
        found = {HH_ON_CHAT: self.hh, PLAIN_ON_CHAT: self.plain - self.hh}
        return tuple(remark for remark, count in found.items() if count)


def _summary(counts: Counter[int]) -> Lengths:
    lengths = np.repeat(sorted(counts), [counts[length] for length in sorted(counts)])
    return Lengths(
        min=int(lengths[0]),
        median=float(np.median(lengths)),
        p95=float(np.quantile(lengths, 0.95)),
        max=int(lengths[-1]),
    )

"""What a labelling found, for the terminal and for the file beside its output."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seralign.preferences.combining import Calibration
from seralign.preferences.kept import Write
from seralign.preferences.reliability import Reliability
from seralign.tables import Table

MOST_ANNOTATORS = 20


@dataclass(frozen=True)
class SignalFigures:
    """What a signal said.

    Args:
        title: Of the signal.
        values: Responses with a score, or comparisons with a side.
        missing: Counts of those without, by reason.
        annotators: How reliable its annotators are, where that was estimated.
    """

    title: str
    values: int
    missing: dict[str, int]
    annotators: tuple[Reliability, ...] = ()


@dataclass(frozen=True)
class LabelFigures:
    """What a labelling found.

    Args:
        out: The file of preferences.
        write: Their form.
        rows: Rows that were read.
        prompts: Prompts with their responses.
        responses: Responses.
        written: Pairs, rankings or scores that were written.
        soft: Share of the pairs with p below 1; None for other forms.
        tied: Share of the rankings with a tie; None for other forms.
        dropped: Counts of pairs, prompts and so on that were left out, by reason.
        signals: What each signal said.
        network: Whether checks could use the network.
        reliabilities: Of the signals, where several were combined by ``dawid_skene``.
        calibration: On gold labels, where several were combined by ``logistic``.
    """

    out: str
    write: Write
    rows: int
    prompts: int
    responses: int
    written: int
    soft: float | None
    tied: float | None
    dropped: dict[str, int]
    signals: tuple[SignalFigures, ...]
    network: bool
    reliabilities: tuple[Reliability, ...] = ()
    calibration: tuple[Calibration, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)


def tables(figures: LabelFigures) -> Iterator[Table]:
    """The figures as tables."""
    counts = [("rows read", figures.rows), ("prompts", figures.prompts), ("responses", figures.responses)]
    counts += [
        (figures.write, figures.written),
        *((f"left out: {why}", count) for why, count in figures.dropped.items()),
    ]
    rows = [(name, f"{count:,}") for name, count in counts]
    for name, share in (("soft labels", figures.soft), ("rankings with ties", figures.tied)):
        if share is not None:
            rows.append((name, f"{100 * share:.1f}%"))
    yield Table(figures.out, ("", "count"), tuple(rows))
    signals = []
    for one in figures.signals:
        why = ", ".join(f"{reason} {count:,}" for reason, count in one.missing.items())
        signals.append((one.title, f"{one.values:,}", f"{sum(one.missing.values()):,}", why or "–"))
    yield Table("Signals", ("signal", "values", "missing", "why"), tuple(signals))
    for one in figures.signals:
        if one.annotators:
            yield _reliabilities(f"Annotators of {one.title}", "annotator", one.annotators)
    if figures.reliabilities:
        yield _reliabilities("Signals that are combined", "signal", figures.reliabilities)
    if figures.calibration:
        rows = tuple(
            (one.name, f"{100 * one.accuracy:.1f}%", f"{one.brier:.4f}", f"{one.ece:.4f}", f"{one.count:,}")
            for one in figures.calibration
        )
        yield Table("On gold labels, by cross-validation", ("signal", "accuracy", "Brier", "ECE", "labels"), rows)


def _reliabilities(caption: str, name: str, found: tuple[Reliability, ...]) -> Table:
    rows = tuple((one.name, f"{100 * one.accuracy:.1f}%", f"{one.count:,}") for one in found[:MOST_ANNOTATORS])
    more = len(found) - MOST_ANNOTATORS
    return Table(
        f"{caption} ({MOST_ANNOTATORS} with most labels; {more} more in the file)" if more > 0 else caption,
        (name, "accuracy", "labels"),
        rows,
    )

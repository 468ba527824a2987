"""Texts of a run whose objective is SFT: it has demonstrations and losses, and ranks no pairs."""

from __future__ import annotations

from seralign.report.record import RunFigures
from seralign.runs.data_figures import DataFigures, SourceFigures
from seralign.tables import counted, number


def demonstrations(figures: RunFigures) -> int | None:
    """How many demonstrations a run trains on; None before it has."""
    return next((entry.train.pairs for entry in figures.rounds if entry.train is not None), None)


def dropped(data: DataFigures) -> int:
    """Rows that were dropped of what the demonstrations are made of."""
    return sum(_source(data).dropped.values())


def data_lines(figures: RunFigures) -> list[str]:
    """Where the demonstrations came from, a line each."""
    data = figures.data
    if data is None:
        return ["No data read yet"]
    source = _source(data)
    what = "demonstrations" if "demonstrations" in data.sources else "pairs, of which the chosen responses"
    left_out, noted = (counted(source.located(counts)) for counts in (source.dropped, source.noted))
    lines = [f"{source.kept:,} of {source.read:,} {what} read from {source.source}"]
    held = "pairs" if "pairs" in data.sources else "demonstrations"
    lines.append(f"{data.heldout:,} {held} held out, for the held-out loss")
    lines.append("dropped: " + (left_out or "none"))
    return [*lines, f"noted: {noted}"] if noted else lines


def _source(data: DataFigures) -> SourceFigures:
    return data.sources.get("demonstrations") or data.sources["pairs"]


def heldout_loss(figures: RunFigures) -> tuple[str, str] | None:
    """The held-out loss after the training, and a note with the loss before it; None without held-out data."""
    one = next((one for one in figures.trainings if one.name == "round 1"), None)
    if one is None or one.heldout_last is None:
        return None
    note = f"nats a token; {number(one.heldout_first, 3)} at the start"
    if one.perplexity is not None:
        note += f"; perplexity {number(one.perplexity, 2)}"
    return number(one.heldout_last, 3), note

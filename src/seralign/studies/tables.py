"""The figures of a study as tables, for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Sheet:
    """A table: a title, names of columns, and rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title, title_justify="left", title_style="bold", header_style="bold")
        for place, column in enumerate(self.columns):
            table.add_column(column, justify="left" if place < 2 else "right")
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        return table

    def markdown(self) -> str:
        """For a page."""
        lines = ["| " + " | ".join(self.columns) + " |", "|" + " --- |" * len(self.columns)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines)


def study_tables(figures: dict[str, Any]) -> RenderableType:
    """A study, finished or not."""
    parts: list[RenderableType] = []
    for name in figures["worlds"]:
        parts += [part for sheet in world_sheets(figures, name) for part in (sheet.rich(), Text(""))]
    return Group(*parts, Text(headline(figures)), Text(LEGEND))


def headline(figures: dict[str, Any]) -> str:
    """How far a study is."""
    done = f"{figures['finished']} of {figures['cells']} cells finished, {figures['seconds'] / 60:,.0f} minutes of work"
    return f"{figures['study']}: {done}"


LEGEND = (
    "Settings are chosen on validation prompts; figures are of test prompts, ± half of the 95% t interval over seeds. "
    "wins: against the baseline's best setting, ties half. excess: gold above the baseline's envelope at the same KL, "
    "of this setting and of the one where it is largest on validation prompts. area: mean gold above the supervised "
    "policy within a budget of KL, over budgets up to the largest of the baseline's frontier. headroom: share won of "
    "what the ceiling has above the baseline."
)


def world_sheets(figures: dict[str, Any], world: str) -> Iterator[Sheet]:
    """The comparison at each temperature, then the rounds of the methods that have several."""
    found = figures["worlds"][world]
    for temperature, rows in found["temperatures"].items():
        if rows:
            title = f"world {world}, answers at temperature {temperature}, baseline {figures['baseline']}"
            yield Sheet(title, _COLUMNS, tuple(_row(name, row) for name, row in rows.items()))
    rounds = [(name, stage, row) for name, by_round in found["rounds"].items() for stage, row in by_round.items()]
    rows = tuple(_round(name, stage, row) for name, stage, row in rounds if row is not None)
    if rows:
        yield Sheet(f"world {world}, round by round", _ROUND_COLUMNS, rows)


_COLUMNS = ("method", "setting", "gold", "KL", "wins", "excess", "largest excess", "area", "headroom", "ranks gold",
            "length", "distinct-2", "unfinished", "seeds")  # fmt: skip
_ROUND_COLUMNS = ("method", "round", "gold", "KL", "length", "distinct-2", "unfinished", "ranks gold",
                  "flips kept / all", "gold-wrong kept / all", "made right", "made wrong", "made longer by",
                  "margin ~ gold", "margin ~ length")  # fmt: skip


def _row(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    figures = row["figures"]
    return (
        name,
        row["setting"],
        interval(row["gold"]),
        number((row["kl"] or {}).get("mean"), 1),
        interval(row["win_rate"]),
        interval(row["excess"]),
        interval(row["best_excess"]),
        interval(row["hypervolume"]),
        interval(row["headroom"], 2),
        number(figures.get("gold_accuracy")),
        number(figures.get("length"), 1),
        number(figures.get("distinct_2")),
        percent(figures.get("unfinished")),
        str(row["seeds"]),
    )


def _round(name: str, stage: str, row: dict[str, Any]) -> tuple[str, ...]:
    answers, ranking, margins = row["answers"]["1.0"], row["ranking"], row.get("margins") or {}
    selection, made = row.get("selection") or {"kept": {}, "all": {}}, row.get("generated") or {}

    def both(key: str) -> str:
        kept, everything = selection["kept"].get(key), selection["all"].get(key)
        return "–" if kept is None else f"{number(kept)} / {number(everything)}"

    return (
        name,
        stage.removeprefix("round-"),
        number(answers["gold"]),
        number(row["kl"], 1),
        number(answers["length"], 1),
        number(answers["distinct_2"]),
        percent(answers["unfinished"]),
        number(ranking["gold_accuracy"]),
        both("flip_rate"),
        both("gold_wrong"),
        number(made.get("gold_right")),
        number(made.get("gold_wrong")),
        number(made.get("length_difference"), 1),
        number(margins.get("margin_gold_correlation"), 2),
        number(margins.get("margin_length_correlation"), 2),
    )


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """A share, or a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}%"


def interval(value: dict[str, Any] | None, digits: int = 3) -> str:
    """A mean with half of its interval, or a dash where there is none."""
    if value is None:
        return "–"
    half = "" if value["low"] is None else f" ± {(value['high'] - value['low']) / 2:.{digits}f}"
    return f"{value['mean']:.{digits}f}{half}"

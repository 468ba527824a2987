"""The figures of a study as tables, for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from seralign.intervals import Interval
from seralign.studies.stopping import HARM
from seralign.tables import Table, number, percent, signed, terminal
from seralign.tables import interval as shown


def study_tables(figures: dict[str, Any]) -> RenderableType:
    """A study, finished or not."""
    parts: list[RenderableType] = []
    for name in figures["worlds"]:
        parts += [part for table in world_tables(figures, name) for part in (terminal(table, names=2), Text(""))]
    parts += [part for table in round_tables(figures) for part in (terminal(table), Text(""))]
    return Group(*parts, Text(headline(figures)), Text(LEGEND))


def round_tables(figures: dict[str, Any]) -> Iterator[Table]:
    """Over all runs of several rounds: where stopping rules would have ended them, and at what KL rounds did harm."""
    found = figures["stopping"]
    if not found["runs"]:
        return
    temperatures = list(next(iter(found["rules"].values()))["gold"])
    columns = [f"{kind}, T = {at}" for at in temperatures for kind in ("gold", "lost to the best round")]
    rules = []
    for name, rule in found["rules"].items():
        cells = [number(rule[kind][at], 3) for at in temperatures for kind in ("gold", "lost")]
        rules.append((name, number(rule["round"], 1), *cells))
    title = f"stopping rules, runs of three rounds or more: {found['runs']}"
    yield Table(title, ("rule", "gives round", *columns), tuple(rules))
    budgets = []
    for row in found["budgets"]:
        low, high = number(row["from"], 0), number(row["to"], 0)
        kl = f"{low} to {high}" if row["to"] else f"above {low}"
        budgets.append((kl, str(row["rounds"]), percent(row["harmed"]), signed(row["gain"], 3)))
    columns = ("KL", "rounds", f"more than {HARM:g} below the best before", "gain over the round before")
    yield Table(f"rounds after the first by KL, gold at temperature {temperatures[0]}", columns, tuple(budgets))


def headline(figures: dict[str, Any]) -> str:
    """How far a study is."""
    done = f"{figures['finished']} of {figures['cells']} cells finished, {figures['seconds'] / 60:,.0f} minutes of work"
    return f"{figures['study']}: {done}"


LEGEND = (
    "Settings are chosen on validation prompts; figures are of test prompts, ± half of the 95% t interval over seeds. "
    "wins: against the baseline's best setting, ties half. excess: gold above the baseline's envelope at the same KL, "
    "of this setting and of the one where it is largest on validation prompts. area: mean gold above the supervised "
    "policy within a budget of KL, over budgets up to the largest of the baseline's frontier. headroom: share won of "
    "what the ceiling has above the baseline. made right, made wrong: by gold, of the generated pairs that a round "
    "trained on. longer than the baseline: by what share, at the same KL, or the baseline's largest."
)


def world_tables(figures: dict[str, Any], world: str) -> Iterator[Table]:
    """The comparison at each temperature, then the rounds of the methods that have several: what they did, and whether
    they hold up."""
    found = figures["worlds"][world]
    for temperature, rows in found["temperatures"].items():
        if rows:
            title = f"world {world}, answers at temperature {temperature}, baseline {figures['baseline']}"
            yield Table(title, _COLUMNS, tuple(_row(name, row) for name, row in rows.items()))
    rounds = [(name, stage, row) for name, by_round in found["rounds"].items() for stage, row in by_round.items()]
    rows = tuple(_round(name, stage, row) for name, stage, row in rounds if row is not None)
    if rows:
        yield Table(f"world {world}, round by round", _ROUND_COLUMNS, rows)
    late = [(name, stage, row) for name, by_round in found["lasting"].items() for stage, row in by_round.items()]
    several = len(found["temperatures"]) > 1
    told = [each for each in late if each[1] != "round-2" or each[2]["gold_right"]]
    rows = tuple(_late(*each, several) for each in told)
    if rows:
        yield Table(f"world {world}, do the rounds hold up", _late_columns(found), rows)


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
        interval(row["gold"], 3),
        number((row["kl"] or {}).get("mean"), 1),
        interval(row["win_rate"], 3),
        interval(row["excess"], 3),
        interval(row["best_excess"], 3),
        interval(row["hypervolume"], 3),
        interval(row["headroom"], 2),
        number(figures.get("gold_accuracy"), 3),
        number(figures.get("length"), 1),
        number(figures.get("distinct_2"), 3),
        percent(figures.get("unfinished")),
        str(row["seeds"]),
    )


def _late_columns(found: dict[str, Any]) -> tuple[str, ...]:
    first, *others = found["temperatures"]
    gains = [f"gold since round 2, T = {first}", *(f"T = {last}" for last in others[-1:])]
    return ("method", "round", *gains, "made right", "made wrong", "longer than the baseline")


def _late(name: str, stage: str, row: dict[str, Any], several: bool) -> tuple[str, ...]:
    return (
        name,
        stage.removeprefix("round-"),
        interval(row["gain"], 3),
        *([interval(row["gain_sharp"], 3)] if several else []),
        interval(row["gold_right"], 3),
        interval(row["gold_wrong"], 3),
        interval(row["longer"], 2),
    )


def _round(name: str, stage: str, row: dict[str, Any]) -> tuple[str, ...]:
    answers, ranking, margins = row["answers"]["1.0"], row["ranking"], row.get("margins") or {}
    selection, made = row.get("selection") or {"kept": {}, "all": {}}, row.get("generated") or {}

    def both(key: str) -> str:
        kept, everything = selection["kept"].get(key), selection["all"].get(key)
        return "–" if kept is None else f"{number(kept, 3)} / {number(everything, 3)}"

    return (
        name,
        stage.removeprefix("round-"),
        number(answers["gold"], 3),
        number(row["kl"], 1),
        number(answers["length"], 1),
        number(answers["distinct_2"], 3),
        percent(answers["unfinished"]),
        number(ranking["gold_accuracy"], 3),
        both("flip_rate"),
        both("gold_wrong"),
        number(made.get("gold_right"), 3),
        number(made.get("gold_wrong"), 3),
        number(made.get("length_difference"), 1),
        number(margins.get("margin_gold_correlation"), 2),
        number(margins.get("margin_length_correlation"), 2),
    )


def interval(value: dict[str, Any] | None, digits: int) -> str:
    """An interval as JSON has it."""
    return shown(None if value is None else Interval(**value), digits)

"""The figures of a study as tables, for the terminal and for a page. Every figure is described once, by a column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from seralign.evaluation.label_quality import GeneratedFigures, LabelFigures
from seralign.runs.layout import round_name, round_of
from seralign.studies.figures import (
    BudgetFigures,
    Comparison,
    LaterRound,
    RoundFigures,
    RuleFigures,
    StudyFigures,
    WorldFigures,
)
from seralign.studies.stopping import HARM
from seralign.tables import ABSENT, Column, Table, interval, number, percent, signed, table, terminal


@dataclass(frozen=True)
class Method:
    """A method's row."""

    name: str
    found: Comparison


@dataclass(frozen=True)
class MethodRound:
    """The row of a round of a method; ``name`` is that of the round."""

    method: str
    name: str
    found: RoundFigures


@dataclass(frozen=True)
class MethodLaterRound:
    """As ``MethodRound``, against round 2."""

    method: str
    name: str
    found: LaterRound


@dataclass(frozen=True)
class Rule:
    """A stopping rule's row."""

    name: str
    found: RuleFigures


def study_tables(figures: StudyFigures) -> RenderableType:
    """A study, finished or not."""
    parts: list[RenderableType] = []
    for name in figures.worlds:
        parts += [part for made in world_tables(figures, name) for part in (terminal(made, names=2), Text(""))]
    parts += [part for made in round_tables(figures) for part in (terminal(made), Text(""))]
    return Group(*parts, Text(headline(figures)), Text(LEGEND))


def headline(figures: StudyFigures) -> str:
    """How much of a study is done."""
    done = f"{figures.finished} of {figures.cells} cells finished, {figures.seconds / 60:,.0f} minutes of work"
    return f"{figures.study}: {done}"


LEGEND = (
    "Settings are chosen on validation prompts; figures are of test prompts, ± half of the 95% t interval over seeds. "
    "wins: against the baseline at its best setting, ties half. excess: gold above the envelope of the baseline at the "
    "same KL, of this setting and of the one where it is largest on validation prompts. area: mean gold above the "
    "supervised policy within a budget of KL, over budgets up to the largest of the baseline's frontier. headroom: "
    "share won of what the ceiling has above the baseline; † at more than 1.25 times the KL of both. beyond: at a KL "
    "above that of all settings of the baseline, so nothing is known of it there, and there is no excess: give the "
    "baseline settings that reach as far. made right, made wrong: by gold, of the generated pairs "
    "that a round trained on. longer than the baseline: by what share, at the same KL, or at the baseline's largest."
)


def _mean(method: Method, name: str) -> float | None:
    return method.found.figures.get(name)


def _excess(row: Method) -> str:
    return "beyond" if row.found.beyond else interval(row.found.excess, 3)


def _best_excess(row: Method) -> str:
    return "beyond" if row.found.best_setting is None else interval(row.found.best_excess, 3)


def _headroom(row: Method) -> str:
    shown = interval(row.found.headroom, 2)
    return f"{shown} †" if row.found.headroom is not None and row.found.at_more_kl else shown


def _kl(method: Method) -> str:
    return number(None if method.found.kl is None else method.found.kl.mean, 1)


METHOD_COLUMNS = (
    Column[Method]("method", lambda row: row.name),
    Column[Method]("setting", lambda row: row.found.setting),
    Column[Method]("gold", lambda row: interval(row.found.gold, 3)),
    Column[Method]("KL", _kl),
    Column[Method]("wins", lambda row: interval(row.found.win_rate, 3)),
    Column[Method]("excess", _excess),
    Column[Method]("largest excess", _best_excess),
    Column[Method]("area", lambda row: interval(row.found.hypervolume, 3)),
    Column[Method]("headroom", _headroom),
    Column[Method]("ranks gold", lambda row: number(_mean(row, "gold_accuracy"), 3)),
    Column[Method]("length", lambda row: number(_mean(row, "length"), 1)),
    Column[Method]("distinct-2", lambda row: number(_mean(row, "distinct_2"), 3)),
    Column[Method]("unfinished", lambda row: percent(_mean(row, "unfinished"))),
    Column[Method]("seeds", lambda row: str(row.found.seeds)),
)


def _both(read: Callable[[LabelFigures], float | None]) -> Callable[[MethodRound], str]:
    """A figure of the selected pairs, and of all."""

    def cell(row: MethodRound) -> str:
        labels = row.found.labels
        kept = None if labels is None else read(labels.selection.kept)
        if labels is None or kept is None:
            return ABSENT
        return f"{number(kept, 3)} / {number(read(labels.selection.all), 3)}"

    return cell


def _made(read: Callable[[GeneratedFigures], str]) -> Callable[[MethodRound], str]:
    def cell(row: MethodRound) -> str:
        made = None if row.found.labels is None else row.found.labels.generated
        return ABSENT if made is None else read(made)

    return cell


def _margins(row: MethodRound, with_gold: bool) -> str:
    if row.found.labels is None:
        return ABSENT
    margins = row.found.labels.margins
    return number(margins.margin_gold_correlation if with_gold else margins.margin_length_correlation, 2)


ROUND_COLUMNS = (
    Column[MethodRound]("method", lambda row: row.method),
    Column[MethodRound]("round", lambda row: str(round_of(row.name))),
    Column[MethodRound]("gold", lambda row: number(row.found.test.answers["1.0"].gold, 3)),
    Column[MethodRound]("KL", lambda row: number(row.found.test.kl, 1)),
    Column[MethodRound]("length", lambda row: number(row.found.test.answers["1.0"].length, 1)),
    Column[MethodRound]("distinct-2", lambda row: number(row.found.test.answers["1.0"].distinct_2, 3)),
    Column[MethodRound]("unfinished", lambda row: percent(row.found.test.answers["1.0"].unfinished)),
    Column[MethodRound]("ranks gold", lambda row: number(row.found.ranking.truth.gold_accuracy, 3)),
    Column[MethodRound]("flips kept / all", _both(lambda labels: labels.flip_rate)),
    Column[MethodRound]("gold-wrong kept / all", _both(lambda labels: labels.gold_wrong)),
    Column[MethodRound]("made right", _made(lambda made: number(made.gold_right, 3))),
    Column[MethodRound]("made wrong", _made(lambda made: number(made.gold_wrong, 3))),
    Column[MethodRound]("made longer", _made(lambda made: percent(made.chosen_longer))),
    Column[MethodRound]("made longer by", _made(lambda made: number(made.length_difference, 1))),
    Column[MethodRound]("margin ~ gold", lambda row: _margins(row, with_gold=True)),
    Column[MethodRound]("margin ~ length", lambda row: _margins(row, with_gold=False)),
)


def _later_columns(world: WorldFigures) -> tuple[Column[MethodLaterRound], ...]:
    first, *others = world.temperatures
    gains = [Column[MethodLaterRound](f"gold since round 2, T = {first}", lambda row: interval(row.found.gain, 3))]
    if others:
        title = f"T = {others[-1]}"
        gains.append(Column[MethodLaterRound](title, lambda row: interval(row.found.gain_sharp, 3)))
    return (
        Column("method", lambda row: row.method),
        Column("round", lambda row: str(round_of(row.name))),
        *gains,
        Column("made right", lambda row: interval(row.found.gold_right, 3)),
        Column("made wrong", lambda row: interval(row.found.gold_wrong, 3)),
        Column("longer than the baseline", lambda row: interval(row.found.longer, 2)),
    )


def world_tables(figures: StudyFigures, world: str) -> Iterator[Table]:
    """The comparison at each temperature; then, of the methods with several rounds, each round, and later rounds
    compared with round 2."""
    found = figures.worlds[world]
    for temperature, methods in found.temperatures.items():
        if methods:
            title = f"world {world}, answers at temperature {temperature}, baseline {figures.baseline}"
            yield table(title, METHOD_COLUMNS, [Method(name, row) for name, row in methods.items()])
    rounds = [
        MethodRound(method, name, row)
        for method, by_round in found.rounds.items()
        for name, row in by_round.items()
        if row is not None
    ]
    if rounds:
        yield table(f"world {world}, round by round", ROUND_COLUMNS, rounds)
    later = [
        MethodLaterRound(method, name, row)
        for method, by_round in found.later_rounds.items()
        for name, row in by_round.items()
        # Round 2 is compared with itself: it is shown for its generated pairs alone.
        if name != round_name(2) or row.gold_right is not None
    ]
    if later:
        yield table(f"world {world}, do the rounds hold up", _later_columns(found), later)


def round_tables(figures: StudyFigures) -> Iterator[Table]:
    """Over all runs of several rounds: where stopping rules would have ended them, and at what KL rounds do harm."""
    found = figures.stopping
    if not found.runs:
        return
    title = f"stopping rules, runs of three rounds or more: {found.runs}"
    temperatures = list(next(iter(found.rules.values())).gold)
    yield table(title, _rule_columns(temperatures), [Rule(name, rule) for name, rule in found.rules.items()])
    yield table(f"rounds after the first by KL, gold at temperature {temperatures[0]}", BUDGET_COLUMNS, found.budgets)


def _rule_columns(temperatures: list[str]) -> tuple[Column[Rule], ...]:
    columns = [Column[Rule]("rule", lambda row: row.name)]
    columns += [Column[Rule]("gives round", lambda row: number(row.found.round, 1))]
    for at in temperatures:
        columns += [
            Column[Rule](f"gold, T = {at}", lambda row, at=at: number(row.found.gold[at], 3)),
            Column[Rule](f"lost to the best round, T = {at}", lambda row, at=at: number(row.found.lost[at], 3)),
        ]
    return tuple(columns)


def _range(row: BudgetFigures) -> str:
    low = number(row.low, 0)
    return f"above {low}" if row.high is None else f"{low} to {number(row.high, 0)}"


BUDGET_COLUMNS = (
    Column[BudgetFigures]("KL", _range),
    Column[BudgetFigures]("rounds", lambda row: str(row.rounds)),
    Column[BudgetFigures](f"more than {HARM:g} below the best before", lambda row: percent(row.harmed)),
    Column[BudgetFigures]("gain over the round before", lambda row: signed(row.gain, 3)),
)

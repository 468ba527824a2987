"""A run in one screen: its key figures, and what each round did and gained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seralign.intervals import Interval
from seralign.report.columns import (
    ACCURACY,
    ACCURACY_HELDOUT,
    HELDOUT_ACCURACY,
    KL,
    LENGTH,
    MADE,
    OFFLINE_KEPT,
    SCORE,
    STEPS,
    TRAINED,
    TRAINED_ACCURACY,
    TRAINED_MADE,
    accuracy,
    kl,
    length,
    score,
)
from seralign.report.contents import RunContents
from seralign.report.made_pairs import made_from
from seralign.report.record import EvaluatedPolicy, RoundFigures, RunFigures
from seralign.report.supervised import demonstrations, dropped, heldout_loss
from seralign.runs.data_figures import DataFigures
from seralign.runs.layout import round_name
from seralign.tables import ABSENT, Column, Table, duration, percent, signed, table, without_empty

ACCURACY_TILE = HELDOUT_ACCURACY.capitalize()


@dataclass(frozen=True)
class Tile:
    """A key figure: its name, its value, and a note with what to compare it with."""

    label: str
    value: str
    note: str
    interval: str = ""


def headline(run: RunContents) -> str:
    """What the run did, in one sentence."""
    figures = run.figures
    result = "there is no result yet" if figures.result is None else f"the result is {figures.result.policy}"
    if figures.supervised:
        count = demonstrations(figures)
        on = "not trained yet" if count is None else f"on {count:,} demonstrations"
        return f"Supervised fine-tuning (SFT), {on}; {result}."
    done = sum(1 for entry in figures.rounds if entry.train is not None)
    planned = run.config["rounds"]
    rounds = f"{done} {'round' if done == 1 else 'rounds'}" if done == planned else f"{done} of {planned} rounds"
    data = figures.data
    if figures.rewarded:
        steps = sum(entry.train.steps for entry in figures.rounds if entry.train is not None)
        trained = f"{steps:,} steps" if steps else "not trained yet"
        return f"{figures.objective.upper()} on the reward {run.config['rlhf']['reward']}, {trained}; {result}."
    pairs = ", no data read yet" if data is None else f" on {_trained_on(figures, data):,} preference pairs"
    if figures.generates_all and data is not None:
        pairs = f" on newly made pairs ({figures.method})"
    return f"{figures.objective.upper()}{pairs}, {rounds}; {result}."


def _trained_on(figures: RunFigures, data: DataFigures) -> int:
    """Offline pairs that the rounds begin with."""
    return data.pairs if figures.crossfit is None else figures.crossfit.kept


def tiles(run: RunContents) -> list[Tile]:
    """The key figures; those that the run does not have are left out."""
    figures = run.figures
    found = []
    if figures.data is not None and ("pairs" in figures.data.sources or figures.generates_all):
        found.append(_data_tile(figures, figures.data))
    if figures.supervised and (loss := heldout_loss(figures)):
        found.append(Tile("Held-out loss", *loss))
    made = [entry.compose.generated for entry in figures.rounds if entry.compose is not None]
    if sum(made):
        found.append(Tile("Generated pairs used", f"{sum(made):,}", f"{made[-1]:,} in the last round"))
    first, rounds = figures.start, figures.evaluated_rounds
    if first is not None and rounds:
        found += _policy_tiles(run, first, figures.best or rounds[-1])
    if figures.stages:
        memory = figures.peak_memory_mb / 1000
        note = f"peak memory {memory:,.1f} GB; of a stage that was resumed, its last process only"
        found.append(Tile("Time", duration(figures.seconds), note))
    return found


def _policy_tiles(run: RunContents, first: EvaluatedPolicy, last: EvaluatedPolicy) -> list[Tile]:
    """Of the starting policy, and the result's or else the last round's."""
    own, start, found = last.figures, first.figures, []
    if (rate := own.heldout_accuracy) is not None:
        note = f"pairs with a margin above zero; {_between(rate, percent)}; {accuracy(first)} at the start"
        found.append(_tile(ACCURACY_TILE, rate, percent, note))
    if (value := own.score) is not None:
        of = "gold reward; " if run.config.get("world") and not run.config["evaluation"].get("scorer") else ""
        before = "" if start.score is None else f"; {score(start.score.mean)} at the start"
        found.append(_tile("Score", value, score, f"{of}{_between(value, score)}{before}"))
    if (rate := own.win_rates.get(first.name)) is not None:
        found.append(_tile(f"Wins against {first.name}", rate, percent, _between(rate, percent)))
    if (value := own.kl) is not None and not run.figures.supervised:
        found.append(_tile("Distance from the reference", value, kl, f"nats an answer (KL); {_between(value, kl)}"))
    if own.length is not None:
        found.append(Tile("Answer length", length(own.length), f"tokens; {length(start.length)} at the start"))
    return found


def _tile(label: str, value: Interval, text: Callable[[float], str], note: str) -> Tile:
    ends = "" if value.low is None or value.high is None else f"({text(value.low)} to {text(value.high)})"
    return Tile(label, text(value.mean), note, ends)


def _between(value: Interval, text: Callable[[float], str]) -> str:
    if value.low is None or value.high is None:
        return "one value"
    return f"95% interval {text(value.low)} to {text(value.high)}"


def _data_tile(figures: RunFigures, data: DataFigures) -> Tile:
    held = f"{data.heldout:,} held out"
    if figures.supervised and (count := demonstrations(figures)) is not None:
        return Tile("Demonstrations trained on", f"{count:,}", f"{dropped(data):,} dropped, {held}")
    if figures.generates_all and (made := made_from(figures)) is not None:
        name, source = made
        return Tile(name.capitalize(), f"{source.kept:,}", f"{sum(source.dropped.values()):,} dropped, {held}")
    own = _trained_on(figures, data)
    out = sum(data.sources["pairs"].dropped.values()) + data.pairs - own
    return Tile("Pairs to train on", f"{own:,}", f"{out:,} dropped, {held}")


def measured(run: RunContents) -> bool:
    """Whether anything was measured that could be a warning."""
    return bool(run.figures.policies) or any(entry.train or entry.select for entry in run.figures.rounds)


def rounds_table(run: RunContents) -> Table | None:
    """What each round kept, generated, trained on and gained; None before the first."""
    figures = run.figures
    if not figures.rounds:
        return None
    changes, before = dict[int, float](), figures.start
    for entry in figures.rounds:
        policy = figures.policy(round_name(entry.index))
        after, earlier = (None if one is None else one.figures.heldout_accuracy for one in (policy, before))
        if after is not None and earlier is not None:
            changes[entry.index] = 100 * (after.mean - earlier.mean)
        before = policy or before

    def of_policy(column: Column[EvaluatedPolicy]) -> Column[RoundFigures]:
        def cell(entry: RoundFigures) -> str:
            policy = figures.policy(round_name(entry.index))
            return ABSENT if policy is None else column.cell(policy)

        return Column(column.title, cell, column.unit)

    columns = (
        Column[RoundFigures]("", lambda entry: f"Round {entry.index}"),
        *(OFFLINE_KEPT, MADE, TRAINED_MADE, TRAINED, STEPS, TRAINED_ACCURACY),
        of_policy(ACCURACY_HELDOUT),
        Column[RoundFigures]("change", lambda entry: signed(changes.get(entry.index), 1), "points"),
        *map(of_policy, (SCORE, LENGTH, KL)),
    )
    caption = (
        "What each round kept, generated, trained on (its accuracy there: the last logged step), and what its policy "
        f"measures; {ACCURACY}"
    )
    return without_empty(table(caption, columns, figures.rounds))

"""The charts of every training: its loss, held out and on what it trains on, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seralign.report.charts import LINE, Chart, Key, Over, Panel, axis, chart, spread, thinned
from seralign.report.columns import LOSS_COLUMNS, LOSSES
from seralign.report.contents import RunContents
from seralign.report.trainings import is_supervised, training_losses, training_name
from seralign.report.trainings import values as values_of
from seralign.runs.layout import HELDOUT_PREFIX, LEARNING_RATE, LOSS, STEP
from seralign.tables import Table, table

# Points of a training's line.
POINTS = 250


def loss_charts(runs: Sequence[RunContents], over: Over) -> list[Chart]:
    """The charts of loss and learning rate of one run's trainings, or of several over each other."""
    return [_losses(over, runs), _rates(over, runs)]


def panel_name(runs: Sequence[RunContents], training: str) -> str:
    """What a training is called above its chart, of all these runs together."""
    objectives = {run.figures.objective for run in runs}
    return training_name(training, objectives.pop() if len(objectives) == 1 else "the objective")


def _losses(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "Loss"
    panels: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for training, lines in run.training.items():
            trained = [line for line in lines if line.get(LOSS) is not None]
            heldout = [line for line in lines if line.get(HELDOUT_PREFIX + LOSS) is not None]
            if not trained and not heldout:
                continue
            values = panels.setdefault(training, [])
            for series, key, chosen in (("training", LOSS, trained), ("held out", HELDOUT_PREFIX + LOSS, heldout)):
                values += [
                    {"step": line[STEP], "loss": _rounded(line[key]), "series": series, "run": run.name}
                    for line in thinned(chosen, POINTS)
                ]
    if not panels:
        return Chart("loss", title, "Nothing has been trained yet.")
    keys = {"training": Key("training", "kept", "line"), "held out": Key("held out", "heldout", "dashed")}
    style, legend = over.series(keys)
    tip = over.tips(series="on", step="step", loss=("loss", ".4f"))
    shown = []
    for training, values in panels.items():
        y = axis("loss", "loss", spread([value["loss"] for value in values if value["loss"] is not None]))
        place = {"x": axis("step", "step", form="d", zero=True), "y": y, "tooltip": tip} | style
        shown.append(Panel(panel_name(runs, training), chart(values, [{"mark": LINE, "encoding": place}])))
    reading = "The mean loss of the steps between two lines of the log, and of the held-out data where there are any. "
    reading += "A held-out loss that rises while the other falls: the policy learns its training data by heart."
    if any(is_supervised(training, run.figures.objective) for run in runs for training in run.training):
        reading += " The loss of SFT is in nats a token; perplexity is its exponential."
    losses = [
        replace(one, title=over.label(run.name, one.title))
        for run in runs
        for one in training_losses(run.training, run.figures.objective)
    ]
    figures = table(LOSSES, LOSS_COLUMNS, losses)
    return Chart("loss", title, reading, tuple(shown), tuple(legend), figures, half=len(shown) == 1)


def _rates(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "Learning rate"
    panels: dict[str, list[dict[str, Any]]] = {}
    rows = []
    for run in runs:
        for training, lines in run.training.items():
            found = [line for line in lines if line.get(LEARNING_RATE) is not None]
            if not found:
                continue
            panels.setdefault(training, []).extend(
                {"step": line[STEP], "rate": line[LEARNING_RATE], "run": run.name, "series": ""}
                for line in thinned(found, POINTS)
            )
            rates = values_of(found, LEARNING_RATE)
            name = over.label(run.name, training_name(training, run.figures.objective))
            rows.append((name, *(f"{rate:.3g}" for rate in (rates[0], max(rates), rates[-1]))))
    if not panels:
        return Chart("rates", title, "Nothing has been trained yet.")
    style, _ = over.series({"": Key("", "kept", "line")})
    tip = over.tips(step="step", rate=("learning rate", ".3~g"))
    shown = []
    for training, values in panels.items():
        place = {"x": axis("step", "step", form="d", zero=True), "tooltip": tip} | style
        place["y"] = axis("rate", "learning rate", form=".1~e", zero=True)
        height = 190 if len(panels) == 1 else 110
        place["y"]["axis"] |= {
            "tickCount": 5 if len(panels) == 1 else 3,
            "labelExpr": "datum.value ? datum.label : '0'",
        }
        panel = chart(values, [{"mark": LINE, "encoding": place}], height)
        shown.append(Panel(panel_name(runs, training), panel))
    figures = Table("Learning rates at the logged steps", ("training", "first", "highest", "last"), tuple(rows))
    legend = tuple(over.legend("line")) if over.several else ()
    reading = "The learning rate at each logged step: its warm-up, and how the schedule lets it fall."
    return Chart("rates", title, reading, tuple(shown), legend, figures, half=len(shown) == 1)


def _rounded(loss: float) -> float | None:
    return round(loss, 5) if math.isfinite(loss) else None

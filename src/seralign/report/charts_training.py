"""The charts of the work: rewards during training, where the pairs came from, time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seralign.report.charts import (
    LINE,
    POINT,
    Chart,
    Key,
    Over,
    Panel,
    axis,
    chart,
    colours,
    layer,
    names,
    spread,
    thinned,
)
from seralign.report.charts_losses import POINTS, panel_name
from seralign.report.columns import ACCURACY, GENERATED, HELDOUT_ACCURACY, MADE_SHARE, ROUND, STAGE_COLUMNS, accuracy
from seralign.report.contents import RunContents
from seralign.report.record import ALONE
from seralign.runs.figures import Metrics
from seralign.runs.layout import CHOSEN_REWARD, HELDOUT_PREFIX, LOSS, REJECTED_REWARD, STEP, TRAINING_ACCURACY, place
from seralign.tables import ABSENT, Table, number, percent, table

# Stages that took a smaller share of the run's time are only in the table.
SMALL = 0.005


def work_charts(runs: Sequence[RunContents], over: Over) -> list[Chart]:
    """The charts of training and cost of one run, or of several over each other."""
    return [_rewards(over, runs), _shares(over, runs), _costs(over, runs)]


def _rewards(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "Implicit rewards during training"
    of = {CHOSEN_REWARD: "chosen", REJECTED_REWARD: "rejected"}
    trainings = list(dict.fromkeys(name for run in runs for name in run.training))
    panels: dict[str, list[dict[str, Any]]] = {name: [] for name in trainings}
    rows = []
    for run in runs:
        for name, lines in run.training.items():
            trained = [line for line in lines if REJECTED_REWARD in line]
            heldout = [line for line in lines if HELDOUT_PREFIX + REJECTED_REWARD in line]
            for prefix, chosen in (("", trained), (HELDOUT_PREFIX, heldout)):
                for line in thinned(chosen, POINTS):
                    panels[name] += [
                        {
                            "step": line[STEP],
                            "reward": _rounded(line.get(prefix + key)),
                            "series": series,
                            "run": run.name,
                        }
                        | {"where": "held out" if prefix else "training"}
                        for key, series in of.items()
                    ]
            if trained:
                what = f"{run.figures.objective} {ALONE}" if name == "baseline" else name
                policy = run.figures.policy(name.replace(" ", "-"))
                own = ABSENT if policy is None else accuracy(policy)
                rows.append(_training_row(over.label(run.name, what), trained[-1], heldout[-1] if heldout else {}, own))
    shown = {name: values for name, values in panels.items() if values}
    if not shown:
        return Chart("rewards", title, "No round has been trained yet, or its objective has no implicit reward.")
    rewards = [value["reward"] for values in shown.values() for value in values if value["reward"] is not None]
    y = axis("reward", "implicit reward", spread(rewards))
    keys = {"chosen": Key("chosen", "chosen", "line"), "rejected": Key("rejected", "rejected", "dashed")}
    style, legend = over.series(keys)
    legend = [*legend, Key("held-out pairs", "muted", "diamond")]
    tip = over.tips(series="response", where="of", step="step", reward=("reward", ".3f"))
    channels = {"x": axis("step", "step", form="d", zero=True), "y": y, "tooltip": tip}
    line = {"mark": LINE, "transform": [{"filter": "datum.where == 'training'"}]}
    dots = {
        "mark": {"type": "point", "size": 48, "filled": True, "shape": "diamond"},
        "transform": [{"filter": "datum.where != 'training'"}],
    }
    dots["encoding"] = channels | {"color": style["color"]}
    line["encoding"] = channels | style
    reading = (
        "Beta times the log-ratio of the policy to the reference. Training widens the gap between chosen and rejected. "
        "If both fall, responses that are not in the data become more likely."
    )
    columns = (
        "training",
        "loss",
        "training accuracy",
        "chosen",
        "rejected",
        HELDOUT_ACCURACY,
        "held out: chosen",
        "rejected",
    )
    return Chart(
        "rewards",
        title,
        reading,
        tuple(Panel(panel_name(runs, name), chart(values, [line, dots])) for name, values in shown.items()),
        tuple(legend),
        Table(f"The last logged step of each training, and held-out pairs after it; {ACCURACY}", columns, tuple(rows)),
    )


def _rounded(reward: float | None) -> float | None:
    """Null stays: metrics.jsonl has it where a training diverged, and the line of the chart has a gap there."""
    return None if reward is None else round(reward, 5)


def _training_row(name: str, last: Metrics, heldout: Metrics, ranked: str) -> tuple[str, ...]:
    return (
        name,
        number(last.get(LOSS), 3),
        percent(last.get(TRAINING_ACCURACY)),
        number(last.get(CHOSEN_REWARD), 3),
        number(last.get(REJECTED_REWARD), 3),
        ranked,
        number(heldout.get(HELDOUT_PREFIX + CHOSEN_REWARD), 3),
        number(heldout.get(HELDOUT_PREFIX + REJECTED_REWARD), 3),
    )


def _shares(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "Where the pairs came from"
    values, rows, waiting = [], [], []
    for run in runs:
        for entry in run.figures.rounds:
            mixed, train = entry.compose, entry.train
            if run.figures.rewarded:
                continue
            if mixed is not None:
                offline, made = mixed.offline, mixed.generated
            elif train is not None:
                offline, made = train.pairs, 0
            else:
                continue
            share = made / max(offline + made, 1)
            index = str(entry.index)
            common = {"round": index, "run": run.name, "share": round(share, 4)}
            values += [common | {"n": offline, "series": "offline"}, common | {"n": made, "series": "generated"}]
            wanted = ABSENT if mixed is None else percent(mixed.share_wanted)
            cells = (f"{offline:,}", f"{made:,}", percent(share), wanted)
            rows.append((over.label(run.name, f"round {index}" + ("" if train else ", not trained")), *cells))
            if not train:
                waiting.append(over.label(run.name, f"round {index}"))
    if not values:
        return Chart("shares", title, "No round has chosen its pairs yet.")
    x = names("round", list(dict.fromkeys(value["round"] for value in values)), "round")
    if over.several:
        style, legend = over.series({"generated": Key("generated", "made", "line")})
        values = [value for value in values if value["series"] == "generated"]
        channels = {"x": x, "y": axis("share", "generated share", (0.0, 1.0), ".1~%")} | style
        marks = layer("line", {"point": POINT, "strokeWidth": 1.75}, channels)
    else:
        of = {"offline": "kept", "generated": "made"}
        legend = [Key(name, colour, "area") for name, colour in of.items()]
        channels = {"x": x, "y": axis("n", "pairs", zero=True), "color": colours("series", of)}
        marks = layer("bar", {"width": {"band": 0.55}}, channels)
    marks["encoding"]["tooltip"] = over.tips(
        round="round", series="pairs", n=("how many", ",d"), share=("generated share", ".1%")
    )
    reading = "Pairs that each round trained on: those of the data, and those made of sampled answers."
    if not any(value["n"] for value in values if value["series"] == "generated"):
        reading += " No round used generated pairs."
    if waiting:
        reading += f" Not trained yet, only its pairs are chosen: {', '.join(waiting)}."
    columns = (ROUND.title, "offline", GENERATED, MADE_SHARE.title, "share asked for")
    shares = Table("Pairs of each round's training", columns, tuple(rows))
    panels = (Panel("", chart(values, [marks], 210)),)
    return Chart("shares", title, reading, panels, tuple(legend), shares, half=True)


def _costs(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "Time and memory"
    stages = [(run, stage) for run in runs for stage in sorted(run.figures.stages, key=lambda one: place(one.name))]
    if not stages:
        return Chart("costs", title, "No stage is done yet.")
    total = max(run.figures.seconds for run in runs)
    large = [(run, stage) for run, stage in stages if stage.seconds >= SMALL * total]
    values = [
        {
            "stage": stage.name,
            "seconds": stage.seconds,
            "mb": stage.peak_memory_mb,
            "run": run.name,
            "series": "",
        }
        for run, stage in large
    ]
    order = list(dict.fromkeys(sorted((stage.name for _, stage in large), key=place)))
    panels = []
    for name, key, unit in (("Time", "seconds", "seconds"), ("Peak memory so far", "mb", "megabytes")):
        style, _ = over.series({"": Key("", "kept", "area")})
        tip = over.tips(stage="stage", seconds=("seconds", ",.1f"), mb=("peak MB", ",.0f"))
        channels = {"x": axis(key, unit, zero=True), "color": style["color"], "tooltip": tip}
        channels["y"] = names("stage", order, labelLimit=150)
        if over.several:
            channels["yOffset"] = {"field": "run", "scale": {"domain": list(over.names)}}
        height = 40 + len(order) * (10 + 9 * len(over.names))
        panels.append(Panel(name, chart(values, [layer("bar", {"height": {"band": 0.7}}, channels)], height)))
    reading = (
        "Stages in the order of a run; those of less than half a percent of the time are only in the table. Memory is "
        "the peak of the process so far, so it only grows until a run is resumed. The time of a stage that was "
        "interrupted and resumed is that of its last process alone."
    )
    costs = table(
        "All stages", STAGE_COLUMNS, [replace(stage, name=over.label(run.name, stage.name)) for run, stage in stages]
    )
    legend = tuple(over.legend("area") if over.several else ())
    return Chart("costs", title, reading, tuple(panels), legend, costs)

"""The charts of the work: rewards during training, where the pairs came from, time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from seralign.report.contents import RunContents
from seralign.report.format import ACCURACY, ALONE
from seralign.report.summary import accuracy
from seralign.tables import ABSENT, Table, duration, number, percent

# A stage that took less of the run's time is shown in the table alone.
SMALL = 0.005


def work_charts(runs: Sequence[RunContents], over: Over) -> list[Chart]:
    """The charts of training and cost of one run, or of several over each other."""
    return [_rewards(over, runs), _shares(over, runs), _costs(over, runs)]


def _rewards(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "Implicit rewards during training"
    of = {"rewards/chosen": "chosen", "rewards/rejected": "rejected"}
    trainings = list(dict.fromkeys(name for run in runs for name in run.training))
    panels: dict[str, list[dict[str, Any]]] = {name: [] for name in trainings}
    rows = []
    for run in runs:
        for name, lines in run.training.items():
            trained = [line for line in lines if "rewards/rejected" in line]
            heldout = [line for line in lines if "eval_rewards/rejected" in line]
            for prefix, chosen in (("", trained), ("eval_", heldout)):
                for line in thinned(chosen, POINTS):
                    panels[name] += [
                        {
                            "step": line["step"],
                            "reward": _rounded(line.get(prefix + key)),
                            "series": series,
                            "run": run.name,
                        }
                        | {"where": "held out" if prefix else "training"}
                        for key, series in of.items()
                    ]
            if trained:
                what = f"{run.figures['objective']} {ALONE}" if name == "baseline" else name
                ranked = {policy["role"]: accuracy(policy) for policy in run.figures["policies"]}
                own = ranked.get(name.replace(" ", "-"), ABSENT)
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
    place = {"x": axis("step", "step", form="d", zero=True), "y": y, "tooltip": tip}
    line = {"mark": LINE, "transform": [{"filter": "datum.where == 'training'"}]}
    dots = {
        "mark": {"type": "point", "size": 48, "filled": True, "shape": "diamond"},
        "transform": [{"filter": "datum.where != 'training'"}],
    }
    dots["encoding"] = place | {"color": style["color"]}
    line["encoding"] = place | style
    reading = (
        "Beta times how much more likely the policy makes a response than the reference does. The gap between both is "
        "what training widens; where both fall, probability goes to responses that nobody wrote."
    )
    columns = (
        "training",
        "loss",
        "training accuracy",
        "chosen",
        "rejected",
        "held-out accuracy",
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
    """Null stays: metrics.jsonl has it where a training went astray, and a line of the chart a gap."""
    return None if reward is None else round(reward, 5)


def _training_row(
    name: str, last: Mapping[str, float | None], heldout: Mapping[str, float | None], ranked: str
) -> tuple[str, ...]:
    return (
        name,
        number(last.get("loss"), 3),
        percent(last.get("rewards/accuracies")),
        number(last.get("rewards/chosen"), 3),
        number(last.get("rewards/rejected"), 3),
        ranked,
        number(heldout.get("eval_rewards/chosen"), 3),
        number(heldout.get("eval_rewards/rejected"), 3),
    )


def _shares(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "Where the pairs came from"
    values, rows, waiting = [], [], []
    for run in runs:
        for entry in run.figures["rounds"]:
            mixed, train = entry["compose"], entry["train"]
            if mixed is None and train is None:
                continue
            offline, made = (mixed["offline"], mixed["generated"]) if mixed else (train["pairs"], 0)
            share = made / max(offline + made, 1)
            index = str(entry["round"])
            common = {"round": index, "run": run.name, "share": round(share, 4)}
            values += [common | {"n": offline, "series": "offline"}, common | {"n": made, "series": "generated"}]
            wanted = percent(mixed.get("share_wanted")) if mixed else "–"
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
        reading += f" Not trained yet, its pairs are chosen and no more: {', '.join(waiting)}."
    table = Table(
        "Pairs of each round's training",
        ("round", "offline", "generated", "generated share", "wanted share"),
        tuple(rows),
    )
    panels = (Panel("", chart(values, [marks], 210)),)
    return Chart("shares", title, reading, panels, tuple(legend), table, half=True)


def _costs(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "Time and memory"
    stages = [(run, stage) for run in runs for stage in sorted(run.figures["stages"], key=_place)]
    if not stages:
        return Chart("costs", title, "No stage is done yet.")
    total = max(sum(stage["seconds"] for stage in run.figures["stages"]) for run in runs)
    large = [(run, stage) for run, stage in stages if stage["seconds"] >= SMALL * total]
    values = [
        {
            "stage": stage["name"],
            "seconds": stage["seconds"],
            "mb": stage["peak_memory_mb"],
            "run": run.name,
            "series": "",
        }
        for run, stage in large
    ]
    order = list(dict.fromkeys(stage["name"] for _, stage in sorted(large, key=lambda one: _place(one[1]))))
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
    rows = tuple(
        (over.label(run.name, stage["name"]), duration(stage["seconds"]), f"{stage['peak_memory_mb']:,.0f} MB")
        for run, stage in stages
    )
    reading = (
        "Stages in the order of a run; those of less than half a percent of the time are in the table alone. Memory is "
        "the peak of the process so far, so it only grows until a run is taken up again. Of a stage that was "
        "interrupted and taken up again, the time is that of its last process alone."
    )
    table = Table("All stages", ("stage", "time", "peak memory so far"), rows)
    legend = tuple(over.legend("area") if over.several else ())
    return Chart("costs", title, reading, tuple(panels), legend, table)


# Stages as a run goes through them; those of a round begin with the review and end with the decision.
_FIRST = ("world", "data", "precision", "base", "sft", "policies", "initial", "crossfit")
_IN_ROUND = ("score", "select", "sample", "bootstrap", "compose", "train", "evaluate", "tokens", "decide")
_LAST = ("round", "baseline", "result")


def _place(stage: dict[str, Any]) -> tuple[int, int, int]:
    """Where a stage stands in a run, whichever of several runs it is of and however often they were taken up again."""
    head, _, part = stage["name"].partition("/")
    kind, _, index = head.partition("-")
    places = (*_FIRST, *_LAST)
    first = places.index(kind) if kind in places else len(_FIRST)
    within = _IN_ROUND.index(part) if part in _IN_ROUND else 0
    return first, int(index) if index.isdigit() else 0, within

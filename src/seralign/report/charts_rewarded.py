"""The chart of trainings that maximise a reward: reward, tracked scores, KL and length over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seralign.report.charts import LINE, Chart, Key, Over, Panel, axis, chart, spread, thinned
from seralign.report.charts_losses import POINTS
from seralign.report.contents import RunContents
from seralign.runs.figures import Metrics
from seralign.runs.layout import RLHF_KL, RLHF_LENGTH, RLHF_REWARD, RLHF_SPREAD, RLHF_TRACKED, RLHF_UNFINISHED, STEP
from seralign.tables import Table, number, percent

TITLE = "Reward of sampled responses"


def rewarded_charts(runs: Sequence[RunContents], over: Over) -> list[Chart]:
    """The chart, if a run maximises a reward."""
    lines = {run.name: [line for own in run.training.values() for line in own if RLHF_REWARD in line] for run in runs}
    if not any(lines.values()):
        return []
    tracked = sorted({key for own in lines.values() for line in own for key in line if key.startswith(RLHF_TRACKED)})
    reward = Key("reward", "kept", "line")
    keys = {"reward": reward} | {_name(key): Key(_name(key), "made", "dashed") for key in tracked}
    kinds = {"reward": {RLHF_REWARD: "reward"} | {key: _name(key) for key in tracked}}
    kinds |= {"KL, nats a response": {RLHF_KL: "reward"}, "length, tokens": {RLHF_LENGTH: "reward"}}
    style, legend = over.series(keys)
    panels = []
    for title, of in kinds.items():
        values = [
            {"step": line[STEP], "value": round(value, 5), "series": series, "run": run}
            for run, own in lines.items()
            for line in thinned(own, POINTS)
            for key, series in of.items()
            if (value := line.get(key)) is not None
        ]
        if values:
            y = axis("value", title, spread([value["value"] for value in values]))
            tip = over.tips(series="of", step="step", value=(title, ".3f"))
            channels: dict[str, Any] = {"x": axis("step", "step", form="d", zero=True), "y": y, "tooltip": tip} | style
            panels.append(Panel(title, chart(values, [{"mark": LINE, "encoding": channels}])))
    reading = (
        "Means over the responses that the policy sampled between two lines of the log. A reward that rises while a "
        "tracked score falls: the policy exploits mistakes of the reward, and a larger rlhf.beta, fewer steps or a "
        "better reward model would help. KL is the estimate of the training itself; that of the evaluation is exact."
    )
    rows = [
        _row(over.label(run, f"step {line[STEP]:.0f}"), line, tracked)
        for run, own in lines.items()
        for line in ([own[0], own[-1]] if len(own) > 1 else own)
    ]
    columns = ("line", "reward", *map(_name, tracked), "spread within a prompt", "KL", "tokens", "unfinished")
    table = Table("The first and the last logged step", columns, tuple(rows))
    return [Chart("rewarded", TITLE, reading, tuple(panels), tuple(legend), table)]


def _name(key: str) -> str:
    return key.removeprefix(RLHF_TRACKED)


def _row(name: str, line: Metrics, tracked: Sequence[str]) -> tuple[str, ...]:
    scores = [number(line.get(key), 3) for key in (RLHF_REWARD, *tracked, RLHF_SPREAD, RLHF_KL)]
    return (name, *scores, number(line.get(RLHF_LENGTH), 1), percent(line.get(RLHF_UNFINISHED)))

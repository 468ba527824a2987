"""The chart of calibration: implied probabilities of preference against the labels of held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seralign.report.charts import POINT, Chart, Key, Over, Panel, axis, chart, layer
from seralign.report.contents import RunContents
from seralign.runs.calibration import CalibrationFigures
from seralign.tables import Table, interval, number, percent

_COLUMNS = ("policy", "pairs", "Brier score", "calibration error (ECE)")


def calibration_charts(runs: Sequence[RunContents], over: Over) -> list[Chart]:
    """The reliability diagrams of the evaluated policies; none without held-out pairs."""
    panels: dict[str, list[dict[str, Any]]] = {}
    rows = []
    for run in runs:
        for policy in run.figures.policies:
            found = policy.figures.calibration
            if found is None:
                continue
            panels.setdefault(policy.title, []).extend(_points(run, found))
            pairs = sum(one.observed.n for one in found.bins)
            label = over.label(run.name, policy.title)
            rows.append((label, f"{pairs:,}", interval(found.brier, 3), number(found.ece, 3)))
    if not panels:
        return []
    reading = (
        "How probable it is to a policy that the response that it prefers is the better one, sigmoid(beta margin), and "
        "the share of the held-out pairs in which the labels say so, with 95% intervals. Points below the line: the "
        "policy is surer than the labels. With an objective that is not of Bradley and Terry's model, such as ipo or "
        "slic, the probability is what dpo would imply."
    )
    legend = over.legend("dot") if over.several else ()
    shown = tuple(Panel(title, _diagram(over, values)) for title, values in panels.items())
    figures = Table("Calibration on held-out pairs", _COLUMNS, tuple(rows))
    return [Chart("calibration", "Calibration of the preferences", reading, shown, tuple(legend), figures)]


def _points(run: RunContents, found: CalibrationFigures) -> list[dict[str, Any]]:
    return [
        {
            "predicted": round(one.predicted, 4),
            "observed": one.observed.mean,
            "low": one.observed.low,
            "high": one.observed.high,
            "pairs": one.observed.n,
            "between": f"{percent(one.low, 0)} to {percent(one.high, 0)}",
            "run": run.name,
            "series": "",
        }
        for one in found.bins
    ]


def _diagram(over: Over, values: list[dict[str, Any]]) -> dict[str, Any]:
    style, _ = over.series({"": Key("", "kept", "line")})
    across, up = axis("predicted", "implied probability", (0.48, 1.02), ".0%"), axis("observed", "labels", form=".0%")
    up["scale"] = {"domain": [0, 1.02], "nice": False}
    tip = over.tips(
        between="implied probability", predicted=("mean", ".1%"), observed=("labels", ".1%"), pairs=("pairs", ",d")
    )
    line = {
        "data": {"values": [{"x": 0.5, "y": 0.5}, {"x": 1.0, "y": 1.0}]},
        "mark": {"type": "line", "color": "var(--axis)", "strokeWidth": 1},
        "encoding": {"x": {"field": "x", "type": "quantitative"}, "y": {"field": "y", "type": "quantitative"}},
    }
    spans = style | {"x": across, "y": up | {"field": "low"}, "y2": {"field": "high"}}
    return chart(
        values,
        [
            line,
            layer("rule", {"strokeWidth": 1.5, "opacity": 0.6}, spans, "isValid(datum.low)"),
            layer("point", POINT, style | {"x": across, "y": up, "tooltip": tip}),
        ],
    )

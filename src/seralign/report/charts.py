"""What a chart of the report is made of, and the Vega-Lite pieces that all of them share.

Charts are Vega-Lite specifications, drawn in the browser as SVG. Vega rather than Plotly: it has two thirds of the size
of Plotly's smallest bundle, it draws under a Content-Security-Policy without ``unsafe-eval`` (its expressions are
interpreted, not compiled), and its colours may be CSS variables, so that the dark page needs no second drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seralign.tables import Table

# Runs that are compared, in order: CSS variables of report.css, told apart in light, dark and without red or green.
RUN_COLOURS = tuple(f"run-{index}" for index in range(1, 9))

POINT = {"size": 42, "filled": True, "opacity": 1}
# A line whose points are marked: one value alone is no line, and would not be seen.
LINE = {"type": "line", "strokeWidth": 1.75, "point": {"size": 22, "filled": True}}


@dataclass(frozen=True)
class Key:
    """An entry of a chart's legend: ``colour`` is a CSS variable's name, ``shape`` how it is drawn.

    ``shape`` is one of ``area``, ``line``, ``dashed``, ``dot``, ``diamond``, ``triangle``.
    """

    label: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Panel:
    """One chart: its title and its Vega-Lite specification without data's styling."""

    title: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """A chart of the report: one or more panels, how to read them, and the same figures as a table.

    Args:
        key: The chart's anchor in the page.
        title: Its heading.
        reading: How to read it, in a sentence or two.
        panels: Its charts; none where there is nothing to draw, and then ``reading`` says why.
        legend: What colours and shapes mean.
        table: The figures.
        half: Whether another chart has room beside it.
    """

    key: str
    title: str
    reading: str
    panels: tuple[Panel, ...] = ()
    legend: tuple[Key, ...] = ()
    table: Table | None = None
    half: bool = False


@dataclass(frozen=True)
class Over:
    """The runs that charts lay over each other, by the names that the page gives them.

    One run: colours tell its series apart. Several: colours tell the runs apart, and dashes the series.
    """

    names: tuple[str, ...]

    @property
    def several(self) -> bool:
        """Whether runs are compared."""
        return len(self.names) > 1

    @property
    def runs(self) -> dict[str, str]:
        """Colour of each run."""
        return {name: RUN_COLOURS[place % len(RUN_COLOURS)] for place, name in enumerate(self.names)}

    def series(self, keys: dict[str, Key]) -> tuple[dict[str, Any], list[Key]]:
        """Channels of lines whose fields are ``run`` and ``series``, and the legend; ``keys`` by the series' names."""
        styles = [[4, 3] if key.shape == "dashed" else [1, 0] for key in keys.values()]
        dash = {"field": "series", "type": "nominal", "legend": None}
        dash["scale"] = {"domain": list(keys), "range": styles}
        if not self.several:
            by = colours("series", {name: key.colour for name, key in keys.items()})
            return {"color": by, "strokeDash": dash}, list(keys.values())
        legend = self.legend("line")
        if len(keys) > 1:
            legend += [Key(key.label, "muted", key.shape) for key in keys.values()]
        return {"color": colours("run", self.runs), "strokeDash": dash}, legend

    def legend(self, shape: str) -> list[Key]:
        """The runs' own entries of a legend."""
        return [Key(name, colour, shape) for name, colour in self.runs.items()]

    def tips(self, **titles: str | tuple[str, str]) -> list[dict[str, Any]]:
        """The entries of a tooltip, with the run's name first if there are several."""
        return tips(**({"run": "run"} if self.several else {}), **titles)

    def label(self, run: str, what: str) -> str:
        """What a row of a table is called."""
        return f"{run}, {what}" if self.several else what


def chart(values: list[dict[str, Any]], layers: Sequence[dict[str, Any]], height: int = 190) -> dict[str, Any]:
    """A specification of layers over the same rows, as wide as its place in the page."""
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "data": {"values": values},
        "layer": list(layers),
    }


def layer(kind: str, shown: dict[str, Any], encoding: dict[str, Any], where: str | None = None) -> dict[str, Any]:
    """Marks of a kind: how they are drawn, their channels, and which rows they are of."""
    found: dict[str, Any] = {"mark": {"type": kind} | shown, "encoding": encoding}
    return found if where is None else found | {"transform": [{"filter": where}]}


def axis(
    name: str, title: str, low_high: tuple[float, float] | None = None, form: str | None = None, *, zero: bool = False
) -> dict[str, Any]:
    """A channel of numbers: the field, the axis' title, its range where charts share one, and d3's number format."""
    scale: dict[str, Any] = {"zero": zero}
    if low_high is not None:
        scale |= {"domain": list(low_high), "nice": False}
    shown: dict[str, Any] = {"title": title or None}
    if form is not None:
        shown["format"] = form
    return {"field": name, "type": "quantitative", "scale": scale, "axis": shown}


def names(name: str, order: Sequence[str], title: str | None = None, **shown: Any) -> dict[str, Any]:
    """A channel of names in this order."""
    return {
        "field": name,
        "type": "ordinal",
        "scale": {"domain": list(order)},
        "axis": {"title": title, "labelAngle": 0} | shown,
    }


def colours(name: str, of: dict[str, str]) -> dict[str, Any]:
    """The colour channel: names and their CSS variables. The legend is the page's own."""
    values = {"domain": list(of), "range": [f"var(--{colour})" for colour in of.values()]}
    return {"field": name, "type": "nominal", "scale": values, "legend": None}


def tips(**titles: str | tuple[str, str]) -> list[dict[str, Any]]:
    """The entries of a tooltip: field names with a title, or with a title and d3's number format."""
    said = []
    for name, title in titles.items():
        entry = {"field": name, "title": title if isinstance(title, str) else title[0]}
        if isinstance(title, tuple):
            entry |= {"format": title[1], "type": "quantitative"}
        else:
            entry["type"] = "nominal"
        said.append(entry)
    return said


def level(value: float, channel: str = "y") -> dict[str, Any]:
    """A thin line at a value, behind the marks."""
    return {
        "data": {"values": [{"at": value}]},
        "mark": {"type": "rule", "color": "var(--axis)", "strokeWidth": 1},
        "encoding": {channel: {"field": "at", "type": "quantitative"}},
    }


def spread(values: Sequence[float]) -> tuple[float, float]:
    """A range that holds all finite values with a little air; a unit around them where they are all the same."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    air = 0.06 * (high - low) or 0.5
    return low - air, high + air


def share_format(low: float, high: float, ticks: int = 5) -> str:
    """d3's format of a percentage with as many digits as tell the ticks of this range apart."""
    step = (high - low) / ticks
    power = math.floor(math.log10(step)) if step > 0 else -2
    return f".{max(0, -(power + 2))}~%"


def thinned(rows: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` of the rows, evenly, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(place * (len(rows) - 1) / (most - 1))] for place in range(most)]

"""Plots as SVG text: lines over linear axes, and means with intervals. Small, and the same bytes each time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment

WIDTH, HEIGHT, LEGEND = 440, 320, 150
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 28, 42
# Readable on white and on black.
INK = "#7d8590"
COLOURS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#eab308", "#ef4444", "#06b6d4", "#84cc16", "#ec4899", "#8b5cf6",
           "#14b8a6", "#f43f5e")  # fmt: skip

_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" width="{{ width }}" height="{{ height }}"
 font-family="sans-serif" font-size="11" fill="{{ ink }}">
"""
_make = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string
_LINES = _make(
    _HEAD
    + """\
<text x="{{ left }}" y="16" font-size="13">{{ title }}</text>
{% for at, label in x_ticks %}
<path d="M{{ at }} {{ top }}V{{ bottom }}" stroke="{{ ink }}" stroke-opacity=".25"/>
<text x="{{ at }}" y="{{ bottom + 15 }}" text-anchor="middle">{{ label }}</text>
{% endfor %}
{% for at, label in y_ticks %}
<path d="M{{ left }} {{ at }}H{{ right }}" stroke="{{ ink }}" stroke-opacity=".25"/>
<text x="{{ left - 5 }}" y="{{ at + 4 }}" text-anchor="end">{{ label }}</text>
{% endfor %}
<text x="{{ (left + right) / 2 }}" y="{{ bottom + 34 }}" text-anchor="middle">{{ x_label }}</text>
<text transform="translate(13 {{ (top + bottom) / 2 }}) rotate(-90)" text-anchor="middle">{{ y_label }}</text>
{% for line in lines %}
{% for path in line.faint %}
<polyline points="{{ path }}" fill="none" stroke="{{ line.colour }}" stroke-width="1" stroke-opacity=".45"/>
{% endfor %}
<polyline points="{{ line.points }}" fill="none" stroke="{{ line.colour }}" stroke-width="{{ line.width }}"/>
{% for x, y in line.dots %}<circle cx="{{ x }}" cy="{{ y }}" r="2.5" fill="{{ line.colour }}"/>{% endfor %}

<rect x="{{ right + 10 }}" y="{{ line.y - 9 }}" width="10" height="10" fill="{{ line.colour }}"/>
<text x="{{ right + 24 }}" y="{{ line.y }}">{{ line.name }}</text>
{% endfor %}
</svg>
"""
)
_INTERVALS = _make(
    _HEAD
    + """\
<text x="8" y="16" font-size="13">{{ title }}</text>
{% for at, label in x_ticks %}
<path d="M{{ at }} 24V{{ bottom }}" stroke="{{ ink }}" stroke-opacity=".25"/>
<text x="{{ at }}" y="{{ bottom + 15 }}" text-anchor="middle">{{ label }}</text>
{% endfor %}
<path d="M{{ even }} 24V{{ bottom }}" stroke="{{ ink }}" stroke-width="1.5"/>
{% for row in rows %}
<text x="{{ left - 8 }}" y="{{ row.y + 4 }}" text-anchor="end">{{ row.name }}</text>
<path d="M{{ row.low }} {{ row.y }}H{{ row.high }}" stroke="{{ row.colour }}" stroke-width="2"/>
<circle cx="{{ row.mean }}" cy="{{ row.y }}" r="3.5" fill="{{ row.colour }}"/>
{% endfor %}
</svg>
"""
)


@dataclass(frozen=True)
class Line:
    """Some points (x, y), all of them drawn as dots, and those of ``joined`` joined in their order; more lines of the
    same colour, drawn faintly."""

    name: str
    dots: Sequence[tuple[float, float]]
    joined: Sequence[tuple[float, float]]
    bold: bool = False
    faint: Sequence[Sequence[tuple[float, float]]] = ()


@dataclass(frozen=True)
class Mean:
    """A mean and its interval; without ends where there is none."""

    name: str
    mean: float
    low: float | None
    high: float | None


def lines_svg(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> str:
    """Lines over linear axes, their names beside them. At least one of them has a point."""
    points = [
        point for line in lines for point in (*line.dots, *line.joined, *(p for path in line.faint for p in path))
    ]
    x, y = (_axis([point[axis] for point in points]) for axis in (0, 1))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return _at(point[0], x, LEFT, right), _at(point[1], y, bottom, TOP)

    def path(line: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{a},{b}" for a, b in map(place, line))

    drawn = [
        {
            "name": line.name,
            "y": TOP + 10 + 16 * number,
            "points": path(line.joined),
            "faint": [path(each) for each in line.faint],
            "dots": [place(point) for point in line.dots],
            "colour": COLOURS[number % len(COLOURS)],
            "width": 3 if line.bold else 1.5,
        }
        for number, line in enumerate(lines)
    ]
    return _LINES.render(
        title=title,
        x_label=x_label,
        y_label=y_label,
        x_ticks=[(_at(tick, x, LEFT, right), f"{tick:g}") for tick in x],
        y_ticks=[(_at(tick, y, bottom, TOP), f"{tick:g}") for tick in y],
        lines=drawn,
        left=LEFT,
        right=right,
        top=TOP,
        bottom=bottom,
        width=WIDTH + LEGEND,
        height=max(HEIGHT, TOP + 20 + 16 * len(lines)),
        ink=INK,
    )


def intervals_svg(title: str, means: Sequence[Mean], even: float) -> str:
    """A row a mean, with its interval; a line stands at ``even``. At least one mean."""
    ends = [value for each in means for value in (each.mean, each.low, each.high) if value is not None]
    axis, left, right, bottom = _axis([*ends, even]), 150, WIDTH + LEGEND - RIGHT, 30 + 18 * len(means)
    rows: list[dict[str, Any]] = [
        {
            "name": each.name,
            "y": 36 + 18 * number,
            "mean": _at(each.mean, axis, left, right),
            "low": _at(each.mean if each.low is None else each.low, axis, left, right),
            "high": _at(each.mean if each.high is None else each.high, axis, left, right),
            "colour": COLOURS[0],
        }
        for number, each in enumerate(means)
    ]
    return _INTERVALS.render(
        title=title,
        x_ticks=[(_at(tick, axis, left, right), f"{tick:g}") for tick in axis],
        even=_at(even, axis, left, right),
        rows=rows,
        left=left,
        bottom=bottom,
        width=WIDTH + LEGEND,
        height=bottom + 22,
        ink=INK,
    )


def _axis(values: Sequence[float]) -> list[float]:
    """Round ticks that enclose the values, four to ten of them."""
    low, high = min(values), max(values)
    span = high - low or max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 8)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _at(value: float, axis: Sequence[float], start: float, end: float) -> float:
    return round(start + (value - axis[0]) / (axis[-1] - axis[0]) * (end - start), 1)

"""Draws the plots of docs/performance.md from the figures of ``benchmarks.growth``, or prints its key figures.

python -m benchmarks.growth_plots FILE [--folder docs/images]
python -m benchmarks.growth_plots FILE --markdown
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment

WIDTH, HEIGHT = 400, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 54, 46
# Readable on white and on black.
INK, COLOURS = "#7d8590", ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#eab308", "#ef4444")
_SVG = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" width="{{ width }}" height="{{ height }}"
 font-family="sans-serif" font-size="11" fill="{{ ink }}">
{% for panel in panels %}
<g transform="translate({{ panel.left }} 0)">
<text x="{{ panel.middle }}" y="16" text-anchor="middle" font-size="13">{{ panel.title }}</text>
{% for tick in panel.x_ticks %}
<path d="M{{ tick.at }} {{ panel.top }}V{{ panel.bottom }}" stroke="{{ ink }}" stroke-opacity=".25"/>
<text x="{{ tick.at }}" y="{{ panel.bottom + 15 }}" text-anchor="middle">{{ tick.label }}</text>
{% endfor %}
{% for tick in panel.y_ticks %}
<path d="M{{ panel.start }} {{ tick.at }}H{{ panel.end }}" stroke="{{ ink }}" stroke-opacity=".25"/>
<text x="{{ panel.start - 5 }}" y="{{ tick.at + 4 }}" text-anchor="end">{{ tick.label }}</text>
{% endfor %}
<text x="{{ panel.middle }}" y="{{ panel.bottom + 34 }}" text-anchor="middle">{{ panel.x_label }}</text>
{% for line in panel.lines %}
<polyline points="{{ line.points }}" fill="none" stroke="{{ line.colour }}" stroke-width="2"/>
{% for x, y in line.dots %}<circle cx="{{ x }}" cy="{{ y }}" r="2.5" fill="{{ line.colour }}"/>{% endfor %}

<rect x="{{ line.legend }}" y="26" width="10" height="10" fill="{{ line.colour }}"/>
<text x="{{ line.legend + 14 }}" y="35">{{ line.name }}</text>
{% endfor %}
</g>
{% endfor %}
</svg>
""")
_BARS = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 {{ height }}" width="560" height="{{ height }}"
 font-family="sans-serif" font-size="12" fill="{{ ink }}">
<text x="8" y="18" font-size="13">Share of a training step's time</text>
{% for bar in bars %}
<text x="196" y="{{ bar.y + 13 }}" text-anchor="end">{{ bar.name }}</text>
<rect x="204" y="{{ bar.y }}" width="{{ bar.width }}" height="17" fill="{{ bar.colour }}"/>
<text x="{{ 210 + bar.width }}" y="{{ bar.y + 13 }}">{{ bar.share }}</text>
{% endfor %}
</svg>
""")

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Panel:
    """One chart with logarithmic axes; ``lines``: the points (x, y) of each, by name."""

    title: str
    x_label: str
    lines: Mapping[str, list[tuple[float, float]]]


def growth_svg(panels: Sequence[Panel]) -> str:
    """Charts side by side."""
    made = [_panel(panel, number * WIDTH) for number, panel in enumerate(panels)]
    return _SVG.render(panels=made, width=WIDTH * len(panels), height=HEIGHT, ink=INK)


def shares_svg(shares: Mapping[str, float]) -> str:
    """A bar for each share, the largest first."""
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    largest = max(shares.values())
    bars = [
        {
            "name": name,
            "y": 32 + 25 * number,
            "width": round(290 * max(0.0, share) / largest, 1),
            "share": f"{share:.1%}",
            "colour": COLOURS[number % len(COLOURS)],
        }
        for number, (name, share) in enumerate(ordered)
    ]
    return _BARS.render(bars=bars, height=40 + 25 * len(bars), ink=INK)


def plots(figures: Mapping[str, Any]) -> dict[str, str]:
    """The plots, by file name, of all that was measured."""
    makers: dict[str, tuple[str, Callable[[Any], str]]] = {
        "pairs": ("growth-pairs.svg", lambda it: growth_svg(_time_and_memory(it, "pairs", "pairs", "seconds"))),
        "length": (
            "growth-length.svg",
            lambda it: growth_svg(_time_and_memory(it, "tokens", "tokens of a pair", "seconds_a_token")),
        ),
        "vocabulary": (
            "growth-vocabulary.svg",
            lambda it: growth_svg(_time_and_memory(it, "vocabulary", "vocabulary", "seconds_a_token")),
        ),
        "candidates": ("growth-candidates.svg", lambda it: growth_svg([_candidates(it["rows"])])),
        "step": ("time-shares.svg", lambda it: shares_svg(it["shares"])),
    }
    return {file: make(figures[name]) for name, (file, make) in makers.items() if name in figures}


def markdown(figures: Mapping[str, Any]) -> str:
    """The key figures as tables and sentences for docs/performance.md."""
    parts: list[str] = []
    if "pairs" in figures:
        parts += [
            _table(
                ("stage", "pairs", "seconds", "pairs/s", "added memory (MB)", "without mapped files (MB)"),
                [
                    (stage, f"{row['pairs']:,}", *_measured(row, _pair_cells))
                    for stage, rows in _sections(figures["pairs"])
                    for row in rows
                ],
            )
        ]
        parts += [
            f"{stage}: {_slope(rows):,.0f} MB for a million pairs more, mapped files left out, from the two largest."
            for stage, rows in _sections(figures["pairs"])
            if len(_done(rows)) > 1
        ]
    for name, size in (("length", "tokens"), ("vocabulary", "vocabulary")):
        if name in figures:
            parts += [
                _table(
                    (size, "path", "µs/token", "added memory (MB)"),
                    [
                        (f"{row[size]:,}", path, *_measured(row, _token_cells))
                        for path, rows in _sections(figures[name])
                        for row in rows
                    ],
                ),
                f"{name}: both ways gave the same log-probabilities: {figures[name]['equal']}.",
            ]
    if "candidates" in figures:
        cells = [
            (
                row["candidates"],
                f"{1e3 * row['packed_seconds_a_candidate']:.2f}",
                f"{1e3 * row['padded_seconds_a_candidate']:.2f}",
                f"{row['padded_seconds_a_candidate'] / row['packed_seconds_a_candidate']:.2f}",
            )
            for row in figures["candidates"]["rows"]
        ]
        parts += [
            _table(("candidates", "packed ms each", "padded ms each", "padded / packed"), cells),
            f"candidates: both ways gave the same log-probabilities: {figures['candidates']['equal']}.",
        ]
    if "step" in figures:
        parts += _step(figures["step"])
    return "\n\n".join(parts)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="figures of benchmarks.growth")
    parser.add_argument("--folder", type=Path, default=Path("docs/images"), help="where the plots go")
    parser.add_argument("--markdown", action="store_true", help="print the key figures instead")
    options = parser.parse_args()
    figures = json.loads(options.file.read_text(encoding="utf-8"))
    if options.markdown:
        print(markdown(figures))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, svg in plots(figures).items():
        (options.folder / name).write_text(svg, encoding="utf-8")
        print(options.folder / name)


def _sections(figures: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    return [(name, rows) for name, rows in figures.items() if isinstance(rows, list)]


def _done(rows: Rows) -> Rows:
    return [row for row in rows if "skipped" not in row]


def _time_and_memory(figures: Mapping[str, Any], size: str, label: str, seconds: str) -> list[Panel]:
    unit, factor = ("seconds", 1.0) if seconds == "seconds" else ("microseconds a token", 1e6)

    def lines(field: str, factor: float) -> dict[str, list[tuple[float, float]]]:
        return {
            name: [(row[size], factor * row[field]) for row in _done(rows) if row[field] > 0]
            for name, rows in _sections(figures)
        }

    # Pairs are tables on disk, of which mapped pages are no need; elsewhere there are no files.
    memory, what = ("added_without_files_mb", ", without mapped files") if size == "pairs" else ("added_mb", "")
    return [Panel(unit, label, lines(seconds, factor)), Panel(f"MB added{what}", label, lines(memory, 1.0))]


def _candidates(rows: Rows) -> Panel:
    lines = {
        path: [(row["candidates"], 1e3 * row[f"{path}_seconds_a_candidate"]) for row in rows]
        for path in ("packed", "padded")
    }
    return Panel("milliseconds a candidate", "candidates for one prompt", lines)


def _panel(panel: Panel, left: int) -> dict[str, Any]:
    points = [point for line in panel.lines.values() for point in line]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = (10.0 ** end(math.log10(y)) for end, y in _ends([y for _, y in points]))
    start, end, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(value: float, low: float, high: float, first: float, last: float) -> float:
        share = math.log(value / low) / math.log(high / low) if high > low else 0.5
        return round(first + share * (last - first), 1)

    def at(x: float, y: float) -> tuple[float, float]:
        return place(x, x_low, x_high, start, end - 12), place(y, y_low, y_high, bottom, TOP)

    decades = range(round(math.log10(y_low)), round(math.log10(y_high)) + 1)
    return {
        "left": left, "title": panel.title, "x_label": panel.x_label, "middle": (start + end) / 2,
        "start": start, "end": end, "top": TOP, "bottom": bottom,
        "x_ticks": [{"at": at(x, y_low)[0], "label": _short(x)} for x in sorted({x for x, _ in points})],
        "y_ticks": [{"at": at(x_low, 10.0**power)[1], "label": _short(10.0**power)} for power in decades],
        "lines": [
            {
                "name": name,
                "colour": COLOURS[number],
                "legend": start + 100 * number,
                "dots": [at(*point) for point in line],
                "points": " ".join(f"{x},{y}" for x, y in (at(*point) for point in line)),
            }
            for number, (name, line) in enumerate(panel.lines.items())
        ],
    }  # fmt: skip


def _ends(values: Sequence[float]) -> list[tuple[Callable[[float], int], float]]:
    return [(math.floor, min(values)), (math.ceil, max(values) * 1.0001)]


def _short(value: float) -> str:
    if value >= 1024 and value % 1024 == 0:
        return f"{value / 1024:g}k"
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _measured(row: Mapping[str, Any], cells: Callable[[Mapping[str, Any]], tuple[str, ...]]) -> tuple[str, ...]:
    return (f"not measured: {row['skipped']}",) if "skipped" in row else cells(row)


def _pair_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    rate = row["pairs"] / row["seconds"]
    return f"{row['seconds']:.2f}", f"{rate:,.0f}", f"{row['added_mb']:,.0f}", f"{row['added_without_files_mb']:,.0f}"


def _token_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return f"{1e6 * row['seconds_a_token']:.1f}", f"{row['added_mb']:,.0f}"


def _slope(rows: Rows) -> float:
    """MB for a million pairs."""
    before, last = _done(rows)[-2:]
    field = "added_without_files_mb"
    return 1e6 * (last[field] - before[field]) / (last["pairs"] - before["pairs"])


def _step(step: Mapping[str, Any]) -> list[str]:
    shares = [(name, f"{share:.1%}") for name, share in sorted(step["shares"].items(), key=lambda item: -item[1])]
    rates = [(name, f"{rate:,.0f}") for name, rate in step["matrix_gflops_a_second"].items()]
    reached = ", ".join(f"{share:.0%} of {name}" for name, share in step["share_of_rate"].items())
    return [
        f"A step of {step['tokens']:,} tokens ({step['pairs']} pairs, {step['response_tokens']:,} response tokens): "
        f"{step['seconds']:.2f} s, {step['tokens_a_second']:,.0f} tokens/s.",
        _table(("part of the step", "share of its time"), shares),
        _table(("matrix product", "GFLOP/s"), rates),
        f"The step: {step['step_gflop']:,.0f} GFLOP, {step['step_gflops_a_second']:,.0f} GFLOP/s: {reached}.",
    ]


if __name__ == "__main__":
    main()

"""The plots of ``benchmarks.million``: memory by time with the stages of a run, and by stage for several runs.

python -m benchmarks.million_plot FILE.json FILE.json ... --svg FILE
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 900, 320, 60, 50, 90
# Readable on white and on black.
_INK, _COLOURS = "#7d8590", ("#f97316", "#3b82f6", "#10b981", "#a855f7", "#eab308")
_SVG = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" width="{{ width }}" height="{{ height }}"
 font-family="sans-serif" font-size="11" fill="{{ ink }}">
<text x="{{ left }}" y="16" font-size="13">{{ title }}</text>
{% for line in lines %}
<rect x="{{ left + 150 * loop.index0 }}" y="26" width="10" height="10" fill="{{ line.colour }}"/>
<text x="{{ left + 14 + 150 * loop.index0 }}" y="35">{{ line.name }}</text>
<polyline points="{{ line.points }}" fill="none" stroke="{{ line.colour }}" stroke-width="1.5"/>
{% endfor %}
{% for tick in ticks %}
<path d="M{{ left }} {{ tick.at }}H{{ width - 10 }}" stroke="{{ ink }}" stroke-opacity=".25"/>
<text x="{{ left - 5 }}" y="{{ tick.at + 4 }}" text-anchor="end">{{ tick.label }}</text>
{% endfor %}
{% for stage in stages %}
<path d="M{{ stage.at }} {{ top }}V{{ bottom }}" stroke="{{ ink }}" stroke-opacity=".4" stroke-dasharray="3 3"/>
<text transform="translate({{ stage.at + 3 }} {{ bottom + 8 }}) rotate(40)" font-size="10">
{{ stage.name }}</text>
{% endfor %}
</svg>
""")


def memory_svg(title: str, points: Sequence[tuple[float, float, float]], stages: Mapping[str, float]) -> str:
    """A line for all resident memory and one for that without mapped files.

    Args:
        title: What was run.
        points: Seconds, and both in MB.
        stages: The second in which each stage began.
    """
    lines = {name: [(point[0], point[place]) for point in points]
             for name, place in (("all", 1), ("without mapped files", 2))}  # fmt: skip
    marks = {f"{name}, {round(second)} s": second for name, second in stages.items()}
    return _drawn(f"Resident memory (MB) by time (s): {title}", lines, marks, max(1.0, points[-1][0]))


def stages_svg(runs: Sequence[Mapping[str, Any]]) -> str:
    """A line for each run: the peak of resident memory without mapped files in each stage.

    Args:
        runs: The figures of ``benchmarks.million`` for different numbers of pairs.
    """
    # Memory is read five times a second, so a small run can lack stages that took less.
    names = [name for name in runs[-1]["stages"] if all(name in run["stages"] for run in runs)]
    lines = {
        f"{run['pairs']:,} pairs": [(at, run["stages"][name]["anonymous_mb"]) for at, name in enumerate(names)]
        for run in runs
    }
    marks = {name: float(at) for at, name in enumerate(names)}
    return _drawn("Resident memory without mapped files (MB), most in each stage", lines, marks, len(names) - 0.5)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, nargs="+", help="files of benchmarks.million --json")
    parser.add_argument("--svg", type=Path, required=True, help="file to write the plot to")
    options = parser.parse_args()
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in options.figures]
    options.svg.write_text(stages_svg(sorted(runs, key=lambda run: run["pairs"])), encoding="utf-8")


def _drawn(
    title: str, lines: Mapping[str, Sequence[tuple[float, float]]], marks: Mapping[str, float], longest: float
) -> str:
    """Lines of points (x, MB) from zero on, and named marks on the x axis, which ends at ``longest``."""
    largest = max(size for points in lines.values() for _, size in points)
    step = next(size for size in (50, 100, 250, 500, 1000, 2500, 5000, 10**4, 10**5) if largest / size <= 8)
    most = step * (int(largest / step) + 1)

    def x(value: float) -> float:
        return round(_LEFT + (_WIDTH - 10 - _LEFT) * value / longest, 1)

    def y(size: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * size / most, 1)

    return _SVG.render(
        title=title, width=_WIDTH, height=_HEIGHT, left=_LEFT, top=_TOP, bottom=_HEIGHT - _BOTTOM, ink=_INK,
        lines=[{"name": name, "colour": colour, "points": " ".join(f"{x(one)},{y(size)}" for one, size in points)}
               for (name, points), colour in zip(lines.items(), _COLOURS, strict=False)],
        ticks=[{"at": y(size), "label": f"{size:,}"} for size in range(0, most + 1, step)],
        stages=[{"name": name, "at": x(value)} for name, value in marks.items()],
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""The plot of ``benchmarks.million``: memory by time, with the stages of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2 import Environment

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 900, 320, 60, 50, 90
# Readable on white and on black.
_INK, _COLOURS = "#7d8590", ("#f97316", "#3b82f6")
_SVG = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" width="{{ width }}" height="{{ height }}"
 font-family="sans-serif" font-size="11" fill="{{ ink }}">
<text x="{{ left }}" y="16" font-size="13">Resident memory (MB) by time (s): {{ title }}</text>
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
{{ stage.name }}, {{ stage.second }} s</text>
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
    longest = max(1.0, points[-1][0])
    step = next(size for size in (50, 100, 250, 500, 1000, 2500, 5000, 10**4, 10**5)
                if max(point[1] for point in points) / size <= 8)  # fmt: skip
    most = step * (int(max(point[1] for point in points) / step) + 1)

    def x(second: float) -> float:
        return round(_LEFT + (_WIDTH - 10 - _LEFT) * second / longest, 1)

    def y(size: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * size / most, 1)

    lines = [
        {"name": name, "colour": colour, "points": " ".join(f"{x(one[0])},{y(one[place])}" for one in points)}
        for name, colour, place in zip(("all", "without mapped files"), _COLOURS, (1, 2), strict=True)
    ]
    return _SVG.render(
        title=title, width=_WIDTH, height=_HEIGHT, left=_LEFT, top=_TOP, bottom=_HEIGHT - _BOTTOM, ink=_INK,
        lines=lines,
        ticks=[{"at": y(size), "label": f"{size:,}"} for size in range(0, most + 1, step)],
        stages=[{"name": name, "at": x(second), "second": round(second)} for name, second in stages.items()],
    )  # fmt: skip

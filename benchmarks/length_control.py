"""Length-controlled win rates of ours beside those that AlpacaEval 2 published, on its outcomes of 38 models.

    python -m benchmarks.length_control [--data ../shared/data] [--svg docs/images/length-control.svg]

The published rates use difficulties from the whole leaderboard and two more baselines told to be verbose and concise.
Ours use the 38 models' outcomes only. No constant was fitted to the published rates. Several estimates of
difficulty were compared on every other model, in the order of their names; the rest are the models kept aside. Their
figures were printed next to the comparison.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment

from seralign.evaluation.difficulty import Outcomes
from seralign.evaluation.length_control import LengthControl, length_control, length_controls
from seralign.intervals import correlation

DATA = Path("../shared/data")
OUTCOMES, LEADERBOARD = "alpaca_eval_outcomes.csv.gz", "alpaca_eval_leaderboard.csv"


@dataclass(frozen=True)
class Published:
    """A row of the leaderboard, in percent; ``controlled_error`` where it was published."""

    win_rate: float
    controlled: float
    controlled_error: float | None


@dataclass(frozen=True)
class Agreement:
    """Of rates with the published length-controlled ones: mean absolute error in points, and Spearman's correlation."""

    name: str
    models: int
    error: float
    rank: float


def read_outcomes(folder: Path) -> dict[str, Outcomes]:
    """Outcomes by model."""
    rows: dict[str, list[tuple[str, float, float]]] = {}
    with gzip.open(folder / OUTCOMES, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            longer = float(row["len_model"]) - float(row["len_baseline"])
            rows.setdefault(row["model"], []).append((row["prompt_id"], float(row["p_model"]), longer))
    return {
        model: Outcomes([row[0] for row in found], np.array([row[1] for row in found]), np.array([r[2] for r in found]))
        for model, found in sorted(rows.items())
    }


def read_leaderboard(folder: Path) -> dict[str, Published]:
    """The published rates by model."""
    with (folder / LEADERBOARD).open(encoding="utf-8") as file:
        return {
            row["model"]: Published(
                float(row["win_rate"]),
                float(row["length_controlled_winrate"]),
                float(row["lc_standard_error"]) if row["lc_standard_error"] else None,
            )
            for row in csv.DictReader(file)
        }


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 0 [N]; the published rates have no ties."""
    return np.argsort(np.argsort(values)).astype(float)


def agreement(name: str, rates: Mapping[str, float], published: Mapping[str, Published]) -> Agreement:
    """How rates (in [0, 1]) agree with the published length-controlled ones."""
    own = np.array([100 * rate for rate in rates.values()])
    theirs = np.array([published[model].controlled for model in rates])
    rank = correlation(ranks(own.tolist()), ranks(theirs.tolist()))
    return Agreement(name, len(own), float(np.abs(own - theirs).mean()), 0.0 if rank is None else rank)


def agreements(
    outcomes: Mapping[str, Outcomes], found: Mapping[str, LengthControl], published: Mapping[str, Published]
) -> list[Agreement]:
    """Of the plain rates and ours, on all models and on those that nothing was chosen on."""
    plain = {model: control.win_rate.mean for model, control in found.items()}
    ours = {model: control.controlled.mean for model, control in found.items() if control.controlled is not None}
    names = list(found)
    chosen_on, aside = names[0::2], names[1::2]
    apart = {
        model: length_control(outcomes[model], [outcomes[other] for other in chosen_on], samples=2) for model in aside
    }
    alone = {model: length_control(outcomes[model], samples=2) for model in names}
    return [
        agreement("plain", plain, published),
        agreement("length-controlled", ours, published),
        agreement("plain, models kept aside", {model: plain[model] for model in aside}, published),
        agreement("length-controlled, models kept aside", {model: ours[model] for model in aside}, published),
        agreement("the same, difficulty from the other half only", _means(apart), published),
        agreement("without difficulty and prior from other models", _means(alone), published),
    ]


def _means(found: Mapping[str, LengthControl]) -> dict[str, float]:
    return {model: control.controlled.mean for model, control in found.items() if control.controlled is not None}


_SVG = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 460 450" width="460" height="450" font-family="sans-serif"
 font-size="11" fill="#7d8590">
<text x="50" y="16" font-size="13">Length-controlled win rates of 38 models</text>
{% for at, tick in ticks %}
<path d="M{{ 50 + at }} 30V410M50 {{ 410 - at }}H430" stroke="#7d8590" stroke-opacity=".25"/>
<text x="{{ 50 + at }}" y="425" text-anchor="middle">{{ tick }}</text>
<text x="45" y="{{ 414 - at }}" text-anchor="end">{{ tick }}</text>
{% endfor %}
<path d="M50 410L430 30" stroke="#7d8590"/>
<text x="240" y="443" text-anchor="middle">published, %</text>
<text transform="translate(14 220) rotate(-90)" text-anchor="middle">from the 38 models' outcomes, %</text>
{% for dot in dots %}
<path d="M{{ dot.x }} {{ dot.low }}V{{ dot.high }}" stroke="#3b82f6" stroke-opacity=".5"/>
<circle cx="{{ dot.x }}" cy="{{ dot.plain }}" r="2.5" fill="none" stroke="#f97316"/>
<circle cx="{{ dot.x }}" cy="{{ dot.y }}" r="3" fill="#3b82f6"><title>{{ dot.name }}</title></circle>
{% endfor %}
<circle cx="62" cy="44" r="3" fill="#3b82f6"/><text x="70" y="48">length-controlled, with its interval</text>
<circle cx="62" cy="60" r="2.5" fill="none" stroke="#f97316"/><text x="70" y="64">plain</text>
</svg>
""")


def svg(found: Mapping[str, LengthControl], published: Mapping[str, Published]) -> str:
    """A dot for each model: ours over the published rate, with its interval, and the plain rate."""

    def up(share: float | None) -> float:
        return round(410 - 380 * (share or 0.0), 1)

    dots = [
        {
            "name": model,
            "x": round(50 + 3.8 * published[model].controlled, 1),
            "y": up(control.controlled.mean),
            "low": up(control.controlled.low),
            "high": up(control.controlled.high),
            "plain": up(control.win_rate.mean),
        }
        for model, control in found.items()
        if control.controlled is not None
    ]
    return _SVG.render(dots=dots, ticks=[(3.8 * tick, tick) for tick in range(0, 101, 20)])


def main() -> None:
    """Print how the rates agree, the standard errors, and the time; write the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--samples", type=int, default=1000)
    given = parser.parse_args()
    if not (given.data / OUTCOMES).exists():
        print(f"skipped: {given.data / OUTCOMES} is not there")
        return
    outcomes, published = read_outcomes(given.data), read_leaderboard(given.data)
    start = time.perf_counter()
    found = length_controls(outcomes, samples=given.samples)
    print(f"{len(found)} models, {given.samples} refits each, {time.perf_counter() - start:.1f} s")
    plain = max(abs(100 * control.win_rate.mean - published[model].win_rate) for model, control in found.items())
    print(f"largest difference of plain win rates: {plain:.6f} points")
    for one in agreements(outcomes, found, published):
        print(f"{one.name} ({one.models} models): mean absolute error {one.error:.2f} points, Spearman {one.rank:.3f}")
    print("standard errors in points: refitted, not refitted, published")
    for model, control in found.items():
        if control.standard_error is not None and control.unfitted_standard_error is not None:
            theirs = published[model].controlled_error
            said = "-" if theirs is None else f"{theirs:.2f}"
            print(f"{model}: {100 * control.standard_error:.2f} {100 * control.unfitted_standard_error:.2f} {said}")
    ratios = [control.standard_error / control.unfitted_standard_error for control in found.values()
              if control.standard_error and control.unfitted_standard_error]  # fmt: skip
    print(f"refitted over not refitted: median {np.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    if given.svg is not None:
        given.svg.write_text(svg(found, published), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The report: one run, or several side by side, as one HTML file that needs no network and no other file.

Only the file's own scripts run. A Content-Security-Policy lists them by their digests, and forbids all requests and
making code or markup from strings.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from markupsafe import Markup

from seralign.errors import SeralignError
from seralign.report import compare, summary
from seralign.report.answers import Answers, pack_answers
from seralign.report.charts import RUN_COLOURS, Over
from seralign.report.charts_calibration import calibration_charts
from seralign.report.charts_generated import generated_charts
from seralign.report.charts_losses import loss_charts
from seralign.report.charts_pairs import pair_charts
from seralign.report.charts_rewarded import rewarded_charts
from seralign.report.charts_rounds import NO_ANSWERS, policy_charts
from seralign.report.charts_training import work_charts
from seralign.report.columns import LOSS_COLUMNS, LOSSES
from seralign.report.contents import RunContents
from seralign.report.document import content_policy, embedded, environment, source
from seralign.report.duels import duels
from seralign.report.explorer import pack_pairs
from seralign.report.facts import facts
from seralign.report.format import visible
from seralign.report.notes import UNFINISHED
from seralign.report.record import RunFigures
from seralign.report.verdict import verdict
from seralign.runs.files import write_atomic
from seralign.tables import Table, table, without_empty

# Largest size of a page in bytes, with up to 5,000 pairs and with 100,000 or more; linear between them.
SMALL, LARGE = (5_000, 2_950_000), (100_000, 29_500_000)

# Bytes for the pairs of each run even if the rest of a page with many runs takes most of its size.
LEAST = 200_000

# Bytes for the answers of all runs of a page together.
ANSWERS = 500_000

# The charts, first to last.
ORDER = (
    "rewarded",
    "margins",
    "lengths",
    "correlations",
    "generated",
    "shares",
    "path",
    "wins",
    "calibration",
    "responses",
    "loss",
    "rates",
    "rewards",
    "costs",
)
# The charts of runs whose objective is sft.
SUPERVISED = ("loss", "rates", "wins", "responses", "costs")

_VENDOR = ("vendor/vega.min.js", "vendor/vega-lite.min.js", "vendor/vega-interpreter.js")
_OWN = ("page.js", "charts.js", "pairs.js", "pair.js", "explorer.js", "answers.js")


def write_report(runs: Sequence[RunContents], path: Path) -> None:
    """Write the report of one run, or of several compared, as one HTML file.

    Args:
        runs: The content of each run; runs of the same name are numbered.
        path: The file, written atomically. Links to the run's tables are relative to its folder.

    Raises:
        SeralignError: there are more runs than colours.
    """
    if len(runs) > len(RUN_COLOURS):
        raise SeralignError(
            f"{len(runs)} runs to compare: a report holds at most {len(RUN_COLOURS)}, a colour each. Leave some out, "
            "or write several reports (--out)"
        )
    text = render(_named(runs), path.parent)
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def render(runs: Sequence[RunContents], folder: Path) -> str:
    """The page as text; ``folder`` is the folder that it will be in."""
    over = Over(tuple(run.name for run in runs))
    charts = [*pair_charts(runs, over), *generated_charts(runs, over), *policy_charts(runs, over)]
    charts += [*rewarded_charts(runs, over), *calibration_charts(runs, over), *loss_charts(runs, over)]
    charts += work_charts(runs, over)
    supervised = all(run.figures.supervised for run in runs)
    if supervised:
        # Supervised training has no margins and no reference.
        charts = [chart for chart in charts if chart.key in SUPERVISED and chart.panels]
    order = SUPERVISED if supervised else ORDER
    charts.sort(key=lambda chart: order.index(chart.key))
    numbers = count()
    templates = environment()
    style = source(templates, "report.css")
    scripts = [source(templates, name) for name in (*_VENDOR, *_OWN)]
    views = [(chart, [(next(numbers), panel) for panel in chart.panels]) for chart in charts]
    answers = [
        _answers(run, run.answers, place, ANSWERS // len(runs))
        for place, run in enumerate(runs)
        if run.answers is not None
    ]
    duel_table, duel_notes = duels(runs) if over.several and compare.same_scorer(runs) else (None, [])
    context = {
        "title": " / ".join(over.names),
        "version": importlib.metadata.version("seralign"),
        "several": over.several,
        "supervised": supervised,
        "run_keys": over.legend("area"),
        "runs": [_summary(run) for run in runs],
        "differences": compare.differences(runs) if over.several else None,
        "comparison": compare.comparison(runs) if over.several else None,
        "cautions": [*compare.cautions(runs), *duel_notes] if over.several else [],
        "duels": duel_table,
        "charts": views,
        "answers": answers,
        "no_answers": NO_ANSWERS,
        "specs": embedded([panel.spec for chart in charts for panel in chart.panels]),
        "style": style,
        "scripts": scripts,
        "licences": source(templates, "vendor/LICENSES.txt"),
        "policy": content_policy(style, scripts),
    }
    template = templates.get_template("report.html.j2")
    frame = len(template.render(context, explorers=[]).encode()) + 20_000
    pairs = {run.name: 0 if run.pairs is None else len(run.pairs) for run in runs}
    most = _limit(sum(pairs.values())) - frame
    explorers = [
        _explorer(run, run.pairs, max(most * pairs[run.name] // sum(pairs.values()), LEAST), folder)
        for run in runs
        if run.pairs is not None and pairs[run.name]
    ]
    return template.render(context, explorers=explorers)


def _named(runs: Sequence[RunContents]) -> list[RunContents]:
    """The runs with unique, printable names."""
    taken: set[str] = set()
    named = []
    for run in runs:
        plain = visible(run.name)
        tries = (plain if number == 1 else f"{plain} ({number})" for number in count(1))
        name = next(name for name in tries if name not in taken)
        taken.add(name)
        named.append(replace(run, name=name))
    return named


def _summary(run: RunContents) -> dict[str, Any]:
    return {
        "name": run.name,
        "headline": summary.headline(run),
        "tiles": summary.tiles(run),
        "notes": [note for note in run.figures.notes if not note.startswith(UNFINISHED)],
        "finished": run.figures.finished,
        "measured": summary.measured(run),
        "verdict": verdict(run),
        "warnings": run.figures.warnings,
        "rounds": _work(run),
        "facts": facts(run),
        "configuration": compare.configuration(run),
    }


def _work(run: RunContents) -> Table | None:
    """What the run's rounds did; of other training its losses."""
    if not run.figures.supervised and not run.figures.rewarded:
        return summary.rounds_table(run)
    losses = without_empty(table(LOSSES, LOSS_COLUMNS, run.figures.trainings))
    return losses if losses.rows else None


def _answers(run: RunContents, answers: Answers, place: int, most: int) -> dict[str, Any]:
    packed = pack_answers(answers, most)
    header = packed.header
    said = []
    if header["prompts"] < header["total"]:
        said.append(f"The page holds {header['prompts']:,} of the {header['total']:,} prompts, evenly over all.")
    if header["cut"]:
        said.append(f"To keep the file small, {header['cut']:,} texts are cut to {header['longest']} characters.")
    return {
        "name": run.name,
        "place": place,
        "header": embedded(header),
        "block": Markup(packed.block),
        "sentences": said,
    }


def _explorer(run: RunContents, pairs: pa.Table, most: int, folder: Path) -> dict[str, Any]:
    packed = pack_pairs(pairs, run.pairs_total, most)
    coloured = len(pairs) - pairs["tokens_round"].null_count
    root = Path(run.figures.run)
    links = [(name, quote(os.fsencode(os.path.relpath(root / name, folder)))) for name in run.tables]
    return {
        "name": run.name,
        "header": embedded(packed.header | {"first_all": _first_all(run.figures)}),
        "blocks": {name: Markup(block) for name, block in packed.blocks.items()},
        "has_carried": bool(packed.header["carried"]),
        "sentences": _sentences(packed.header, coloured),
        "tables": links,
    }


def _first_all(figures: RunFigures) -> bool:
    """Whether round 1 trained on all offline pairs, as opposed to demonstrations or reviewed pairs."""
    trained = next((entry.train for entry in figures.rounds if entry.index == 1), None)
    if figures.generates_all:
        return False
    if trained is None or figures.data is None:
        return False
    shown = figures.data.sources.get("demonstrations")
    # A training on demonstrations and pairs counts both.
    return trained.pairs in (figures.data.pairs, figures.data.pairs + (shown.kept if shown else 0))


def _sentences(header: dict[str, Any], coloured: int) -> list[str]:
    """Sentences on pairs that are missing or cut; ``coloured`` is the number with token log-ratios in the run."""
    if not header["pairs"]:
        return [f"None of the run's {header['total']:,} pairs fits into the page: it would be too large."]
    said = []
    if header["pairs"] < header["total"]:
        said.append(f"The page holds {header['pairs']:,} of the run's {header['total']:,} pairs.")
    if header["cut"]:
        said.append(
            f"To keep the file small, texts of {header['cut']:,} pairs are cut to {header['longest']} characters."
        )
    if header["coloured"]:
        said.append(f"Tokens of {header['coloured']:,} pairs are coloured by their log-ratio, policy to reference.")
    if header["coloured"] < coloured:
        said.append(f"To keep the file small, {coloured - header['coloured']:,} pairs have no token colours.")
    if not coloured:
        said.append("No pair has token colours: evaluation.token_pairs sets how many pairs of a round get them.")
    return said


def _limit(pairs: int) -> int:
    """Most bytes of a page with so many pairs."""
    (few, small), (many, large) = SMALL, LARGE
    part = min(max((pairs - few) / (many - few), 0.0), 1.0)
    return round(small + part * (large - small))

"""The page of an evaluation: figures, and the answers to each prompt side by side with the verdicts.

One HTML file that needs no network and no other file, like the report of a run.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from seralign.intervals import Interval
from seralign.report.document import content_policy, embedded, environment, source
from seralign.report.evaluation_tables import headline, notes, tables
from seralign.report.packing import LEVELS, block, cut_text, fewer
from seralign.runs.evaluated import EvaluationFigures
from seralign.runs.files import write_atomic
from seralign.tables import Table, share

# Bytes of the packed answers and verdicts.
MOST = 3_000_000

_SCRIPTS = ("page.js", "evaluation.js")


@dataclass(frozen=True)
class ShownOutput:
    """An output: its text, whether it ended by itself, and its tokens; None where they are unknown."""

    text: str
    finished: bool | None
    tokens: int | None


@dataclass(frozen=True)
class ShownVerdict:
    """A verdict on the outputs of a pair to a prompt.

    Args:
        pair: Number of the pair in the figures.
        first_better: Probability that the policy's output is better than the rival's; None without a verdict.
        orders: The same where the policy's output was shown first, and where it was shown second.
        scores: Scores of both.
        text: Explanation by the judge, or why there is no verdict.
        equal: Whether both texts are the same.
    """

    pair: int
    first_better: float | None
    orders: tuple[float, float] | None
    scores: tuple[float, float] | None
    text: str | None
    equal: bool


@dataclass(frozen=True)
class ShownPrompt:
    """A prompt with the output of each policy, and the verdicts on them."""

    text: str
    outputs: tuple[ShownOutput | None, ...]
    verdicts: tuple[ShownVerdict, ...]


@dataclass(frozen=True)
class _Bar:
    """A win rate with its interval as a line of a drawing, in percent."""

    label: str
    value: str
    mean: float
    low: float
    high: float


def write_evaluation(
    figures: EvaluationFigures, prompts: Sequence[ShownPrompt], configuration: Table, name: str, path: Path
) -> None:
    """Write the page of an evaluation, atomically.

    Args:
        figures: The figures.
        prompts: The prompts; if they are too large for a page, some are left out, and the page says so.
        configuration: The keys of the configuration with their values.
        name: Name of the evaluation.
        path: The file.
    """
    text = render(figures, prompts, configuration, name)
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def render(
    figures: EvaluationFigures, prompts: Sequence[ShownPrompt], configuration: Table, name: str, most: int = MOST
) -> str:
    """The page as text; the packed answers have at most ``most`` bytes."""
    templates = environment()
    style = source(templates, "report.css")
    scripts = [source(templates, name) for name in _SCRIPTS]
    header, packed = _pack(figures, prompts, most)
    said = []
    if header["prompts"] < len(prompts):
        said.append(f"The page holds {header['prompts']:,} of the {len(prompts):,} prompts, evenly over all.")
    if header["cut"]:
        said.append(f"To keep the file small, {header['cut']:,} texts are cut to {header['longest']} characters.")
    return templates.get_template("evaluation.html.j2").render(
        title=name,
        version=importlib.metadata.version("seralign"),
        headline=headline(figures),
        notes=notes(figures),
        bars=_bars(figures),
        tables=[each for _, each in tables(figures)],
        sentences=said,
        configuration=configuration,
        header=embedded(header),
        block=Markup(packed),
        style=style,
        scripts=scripts,
        policy=content_policy(style, scripts),
    )


def _bars(figures: EvaluationFigures) -> list[_Bar]:
    found = []
    for pair in figures.pairs:
        rates: tuple[tuple[str, Interval | None], ...] = (
            ("", pair.win_rate),
            (", length-controlled", pair.length_controlled),
        )
        for what, rate in rates:
            if rate is not None:
                low = rate.mean if rate.low is None else rate.low
                high = rate.mean if rate.high is None else rate.high
                label = f"{pair.policy} against {pair.rival}{what}"
                found.append(_Bar(label, share(rate), *(round(100 * one, 2) for one in (rate.mean, low, high))))
    return found


def _pack(figures: EvaluationFigures, prompts: Sequence[ShownPrompt], most: int) -> tuple[dict[str, Any], str]:
    """What the page needs to know before it unpacks the answers, and the answers."""
    for count in fewer(len(prompts)):
        for longest in LEVELS if count == len(prompts) else LEVELS[-1:]:
            rows = [_row(prompts[at * len(prompts) // count], longest) for at in range(count)]
            packed = block(rows)
            if len(packed) <= most or count == 0:
                texts = [text for row in rows for text in (row[0], *(one[:2] for one in row[1] if one))]
                return _header(figures, count, longest, sum(1 for _, missing in texts if missing)), packed
    raise AssertionError("no prompts at all always fit")


def _header(figures: EvaluationFigures, count: int, longest: int, cut: int) -> dict[str, Any]:
    names = [one.name for one in figures.policies]
    pairs = [[names.index(one.policy), names.index(one.rival)] for one in figures.pairs]
    return {"policies": names, "pairs": pairs, "prompts": count, "longest": longest, "cut": cut}


def _row(prompt: ShownPrompt, longest: int) -> list[Any]:
    outputs = [
        None if one is None else [*cut_text(one.text, longest), len(one.text), one.finished, one.tokens]
        for one in prompt.outputs
    ]
    verdicts = [
        [one.pair, one.first_better, one.orders, one.scores, one.text and cut_text(one.text, longest)[0], one.equal]
        for one in prompt.verdicts
    ]
    return [cut_text(prompt.text, longest), outputs, verdicts]

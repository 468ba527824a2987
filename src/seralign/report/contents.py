"""Everything that the report of a run shows, read from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from seralign.report.answers import Answers, read_answers
from seralign.report.figures import round_numbers, run_figures, training_metrics
from seralign.report.pairs import read_pairs
from seralign.report.record import RunFigures
from seralign.runs import Run, read_manifest
from seralign.runs.figures import Metrics
from seralign.runs.layout import PAIR_TABLES, part_of, round_of


@dataclass(frozen=True)
class RunContents:
    """A run as the report shows it.

    Args:
        name: The folder's name.
        config: As in ``run.json``.
        figures: All figures.
        training: Rows of ``metrics.jsonl`` by training: ``sft``, ``round 1``, ..., ``baseline``.
        pairs: The pairs of the run, offline and generated, one row each (see ``seralign.report.pairs.read_pairs``);
            None before there are data.
        pairs_total: Pairs of the run; more than ``len(pairs)`` where the table holds a part.
        tables: Files of the run that hold its pairs, paths relative to the run.
        answers: What its policies answered to the held-out prompts; None where nothing was sampled.
    """

    name: str
    config: dict[str, Any]
    figures: RunFigures
    training: dict[str, list[Metrics]]
    pairs: pa.Table | None
    pairs_total: int
    tables: tuple[str, ...]
    answers: Answers | None = None


def run_contents(run: Run, limit: int = 100_000) -> RunContents:
    """Read a run, finished or not; ``pairs`` has at most ``limit`` rows.

    Raises:
        StoreError: a record or a table of a finished stage is missing or corrupt.
    """
    figures = run_figures(run)
    # A run on demonstrations alone has no pairs to show.
    has_pairs = figures.data is None or "pairs" in figures.data.sources or figures.generates_all
    pairs, total = read_pairs(run, round_numbers(run), limit) if has_pairs else (None, 0)
    return RunContents(
        name=run.root.resolve().name,
        config=read_manifest(run.root)["config"],
        figures=figures,
        training=training_metrics(run),
        pairs=pairs,
        pairs_total=total,
        tables=tuple(
            f"{record.name}/{file}"
            for record in run.stages()
            for file in PAIR_TABLES.get(record.name if round_of(record.name) is None else part_of(record.name), ())
            if file in record.outputs
        ),
        answers=read_answers(run, figures),
    )

"""Rounds that label only some of the generated pairs: active learning within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pipeline.test_judged_rounds import LOOP
from small_run import small_config
from tiny import as_pairs

from seralign.data.table import read_table as read_examples
from seralign.errors import ConfigError
from seralign.pipeline import train
from seralign.runs import Run

JUDGED = LOOP | {"evaluation": LOOP["evaluation"] | {"judge": "pipeline.test_judged_rounds:Brief"}}


def _run(folder: Path, **query: Any) -> tuple[Run, list[dict[str, Any]]]:
    run = train(small_config(folder, **JUDGED | {"bootstrap": LOOP["bootstrap"] | {"query": query}})).run
    made: Any = as_pairs(read_examples(run.path("round-2/bootstrap", "generated.arrow")))
    return run, list(made)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[dict[str, Any]]]:
    """All pairs are labelled, as the budget is larger."""
    run, made = _run(tmp_path_factory.mktemp("all") / "run", budget=1000, strategy="random")
    assert "not asked about" not in run.record("round-2/bootstrap").figures["left_out"]
    assert len(made) > 3
    return run, made


def _margins(run: Run) -> dict[str, float]:
    from seralign.runs.files import read_table

    table = read_table(run.path("round-2/bootstrap", "selection.parquet"), ["example_id", "margin"])
    return {row["example_id"]: abs(row["margin"]) for row in table.to_pylist()}


def test_the_pairs_nearest_to_zero_are_labelled(everything: tuple[Run, list[dict[str, Any]]], tmp_path: Path) -> None:
    whole, pairs = everything
    run, made = _run(tmp_path / "run", budget=3, strategy="uncertainty")
    figures = run.record("round-2/bootstrap").figures
    before = whole.record("round-2/bootstrap").figures["left_out"].get("without a verdict", 0)
    without = figures["left_out"].get("without a verdict", 0)
    assert len(made) + without == 3
    assert figures["left_out"]["not asked about"] == len(pairs) + before - 3
    every, own = _margins(whole), _margins(run)
    # Each labelled pair is one of the whole run; no other pair that the judge could label is nearer to zero.
    assert own.items() <= every.items()
    if own:
        assert sum(margin < max(own.values()) for margin in every.values()) < 3


@pytest.mark.parametrize(
    ("query", "more", "message"),
    [
        ({"budget": 0}, {}, r"bootstrap\.query\.budget must be at least 1, got 0"),
        ({"budget": 5}, {"labels": "reward"}, r"bootstrap\.query chooses pairs for a labeller; set labels: judge"),
        (
            {"budget": 5, "strategy": "disagreement"},
            {},
            r"query\.strategy: disagreement is that of reward models",
        ),
        ({"strategy": "random"}, {}, r"bootstrap\.query\.budget is missing"),
        ({"budget": 5, "strategy": "margin"}, {}, r"bootstrap\.query\.strategy must be one of"),
    ],
)
def test_queries_that_mean_nothing_are_refused(
    query: dict[str, Any], more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        small_config(tmp_path / "run", **JUDGED | {"bootstrap": LOOP["bootstrap"] | {"query": query} | more})

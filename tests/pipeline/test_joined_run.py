"""A whole run of AIHF: every training has the pairs of its round and all demonstrations, and reviews pairs alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_run import small_config

from seralign.config import RunConfig
from seralign.data.table import read_table
from seralign.data.table_columns import example_ids
from seralign.pipeline import train
from seralign.pipeline.plan import plan_run
from seralign.report.contents import run_contents
from seralign.report.page import write_report
from seralign.report.text import run_tables
from seralign.runs import Run
from seralign.runs.files import read_table as read_columns

BATCH = 8


def config(folder: Path, **more: Any) -> RunConfig:
    given: dict[str, Any] = {
        "rounds": 2, "sft": None, "world": {"pairs": 24, "demonstrations": 20, "prompts": 8, "heldout": 6},
        "objective": {"name": "aihf", "beta": 0.3, "demonstration_weight": 0.05},
        "training": {"learning_rate": 1e-3, "epochs": 1, "batch_size": BATCH, "log_steps": 1, "precision": "float32"},
        "evaluation": {"prompts": 0, "baseline": True, "token_pairs": 0},
        "bootstrap": {"samples": 2, "max_new_tokens": 24, "batch_size": 8, "prompts": 6},
    }  # fmt: skip
    return small_config(folder, **given | more)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(config(tmp_path_factory.mktemp("joined") / "run")).run


def test_every_training_has_the_pairs_and_the_demonstrations(joined: Run) -> None:
    pairs, shown = (read_table(joined.path("data", f"{name}.arrow")) for name in ("pairs", "demonstrations"))
    assert len(shown) == 20
    first = read_columns(joined.path("round-1/train", "reference.parquet")).to_pylist()
    assert [row["example_id"] for row in first] == [*example_ids(pairs), *example_ids(shown)]
    assert [len(row["logps"]) for row in first] == [2] * len(pairs) + [1] * 20
    composed = joined.record("round-2/compose").figures
    counts = {"round-1/train": len(pairs), "round-2/train": composed["offline"] + composed["generated"]}
    counts["baseline/train"] = len(pairs)
    for stage, count in counts.items():
        figures = joined.record(stage).figures
        assert figures["pairs"] == count + 20
        if stage != "baseline/train":  # which has as many steps as both rounds
            assert figures["steps"] == -(-(count + 20) // BATCH)
        assert figures["train"]["logps/demonstrations"] < 0
        assert figures["train"]["rewards/accuracies"] is not None
        # Held-out examples are pairs: DPO's loss, log 2 at the start.
        assert "eval_logps/demonstrations" not in figures["heldout"]
    assert joined.record("round-1/train").figures["heldout_first"]["eval_loss"] == pytest.approx(0.693147, abs=1e-6)


def test_only_pairs_are_reviewed(joined: Run) -> None:
    pairs = read_table(joined.path("data", "pairs.arrow"))
    scored = read_columns(joined.path("round-2/score", "margins.parquet"))
    assert sorted(scored["example_id"].to_pylist()) == sorted(example_ids(pairs))


@pytest.mark.real
def test_a_larger_weight_makes_the_demonstrations_likelier(joined: Run, tmp_path: Path) -> None:
    found = {}
    for weight in (0.0, 1.0):
        done = train(
            config(tmp_path / str(weight), rounds=1, bootstrap=None, objective__demonstration_weight=weight,
                   evaluation={"prompts": 0, "token_pairs": 0}, training__epochs=3)
        ).run  # fmt: skip
        lines = (done.path("round-1/train", "metrics.jsonl")).read_text(encoding="utf-8").splitlines()
        values = [json.loads(line) for line in lines]
        found[weight] = [line["logps/demonstrations"] for line in values if "logps/demonstrations" in line]
    assert found[1.0][-1] > found[1.0][0]
    assert found[1.0][-1] > found[0.0][-1] + 1.0


@pytest.mark.real
def test_the_plan_counts_both(joined: Run, tmp_path: Path) -> None:
    plan = plan_run(config(tmp_path / "plan", rounds=1, bootstrap=None, evaluation={"prompts": 0, "token_pairs": 0}))
    (packing,) = plan.packing
    assert packing.steps == joined.record("round-1/train").figures["steps"]


def test_the_report_names_the_demonstrations(joined: Run, tmp_path: Path) -> None:
    contents = run_contents(joined)
    assert run_tables(contents.figures) is not None
    write_report([contents], tmp_path / "report.html")
    assert "Every training also imitated the 20 demonstrations." in (tmp_path / "report.html").read_text("utf-8")

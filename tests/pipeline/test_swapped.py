"""Pairs whose label prefers the rejected response train, and are measured, with their sides swapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import logps_alone, small_config
from tiny import read_pairs

from seralign.config import WorldConfig
from seralign.laboratory.world import make_world
from seralign.pipeline import train
from seralign.runs import Run
from seralign.runs.files import read_table

# Each step of training sees all pairs once, and is logged as it was before the weights change.
ONE_STEP: dict[str, Any] = {
    "rounds": 1, "sft": None, "evaluation__prompts": 0, "evaluation__baseline": False, "evaluation__token_pairs": 0,
    "training__batch_size": 60, "training__log_steps": 1, "training__tokens_per_pack": 10_000,
}  # fmt: skip
STEPS = {**ONE_STEP, "training__max_steps": 1, "training__warmup": 0.0}


def first_line(run: Run) -> dict[str, Any]:
    lines = map(json.loads, run.path("round-1/train", "metrics.jsonl").read_text().splitlines())
    return next(line for line in lines if "loss" in line)


def test_a_label_below_one_half_is_the_other_pair_with_the_other_label(tmp_path: Path) -> None:
    make_world(WorldConfig(pairs=24, demonstrations=8, prompts=8, heldout=8), tmp_path / "world")
    rows = [json.loads(line) for line in (tmp_path / "world" / "pairs.jsonl").read_text().splitlines()]
    rows = [row | {"pair_id": f"pair-{number}", "p": 0.75} for number, row in enumerate(rows)]
    chosen, rejected = sorted(key for key in rows[0] if key.startswith(("chosen", "rejected")))
    turned = [
        row | {chosen: row[rejected], rejected: row[chosen], "p": 0.25} if number % 2 else row
        for number, row in enumerate(rows)
    ]
    found = []
    for name, given in (("straight", rows), ("turned", turned)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
        files = {"data__pairs": {"path": str(tmp_path / f"{name}.jsonl")}, "data__heldout_fraction": 0.25}
        files |= {"world": None, "policy__model": str(tmp_path / "world" / "model")}
        found.append(train(small_config(tmp_path / name, **STEPS | {"training__max_steps": 3}, **files)).run)
    straight, turned_run = found
    name = "metrics.jsonl"
    assert turned_run.path("round-1/train", name).read_text() == straight.path("round-1/train", name).read_text()
    digests = [run.record("round-1/train").figures["digest"] for run in found]
    assert digests[0] == digests[1] != straight.record("policies").figures["initial"]["digest"]
    pairs = [read_pairs(run.path("data", "pairs.arrow")) for run in found]
    assert pairs[0]["p"][:] == pairs[1]["p"][:] == [0.75] * len(pairs[0])
    assert pairs[0]["chosen_ids"][:] == pairs[1]["chosen_ids"][:]


def test_metrics_of_a_reviewed_round_are_of_the_sides_after_the_review(tmp_path: Path) -> None:
    own = {"world__spurious_strength": 5.0, "world__noise": 0.0, "training__learning_rate": 3e-3}
    steps = ONE_STEP | {"training__max_steps": 10, "crossfit": {"folds": 2, "trust": 0.5}}
    run = train(small_config(tmp_path / "run", **own, **steps)).run
    review = read_table(run.path("crossfit/review", "review.parquet")).to_pydict()
    swapped = np.array(review["swapped"])
    assert 0 < swapped.sum() < len(swapped)
    given, pairs = (
        read_pairs(run.path("data", "pairs.arrow")),
        read_pairs(run.path("crossfit/review", "pairs.arrow")),
    )
    assert pairs["example_id"][:] == given["example_id"][:]
    for side, other in (("chosen_ids", "rejected_ids"), ("rejected_ids", "chosen_ids")):
        expected = [given[other][row] if turn else given[side][row] for row, turn in enumerate(swapped)]
        assert pairs[side][:] == expected
    assert min(pairs["p"]) >= 0.5

    # Before the first update, policy and reference are the model that the run began with.
    line, start = first_line(run), run.path("world", "model")
    for side in ("chosen", "rejected"):
        lengths = [len(ids) for ids in pairs[f"{side}_ids"]]
        assert line[f"lengths/{side}"] == pytest.approx(np.mean(lengths), rel=1e-9)
        expected = np.mean(logps_alone(start, pairs, f"{side}_ids"))
        assert line[f"logps/{side}"] == pytest.approx(expected, rel=1e-5)
        assert line[f"rewards/{side}"] == 0.0

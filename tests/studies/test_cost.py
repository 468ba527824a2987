"""The tokens that a run sampled and trained on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seralign.studies.cost import run_cost
from seralign.studies.figures import CostFigures, RewardStep


def settings(**given: Any) -> Any:
    return SimpleNamespace(**{"rlhf": None, "rounds": 1, "training": SimpleNamespace(batch_size=10)} | given)


def run(root: Path, *rounds: list[dict[str, float]]) -> Any:
    """A run with lines of metrics in each round, and two samples of three tokens in each round but the first."""
    for number, lines in enumerate(rounds, 1):
        folder = root / f"round-{number}"
        (folder / "train").mkdir(parents=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "train" / "metrics.jsonl").write_text(text, encoding="utf-8")
        if number > 1:
            (folder / "sample").mkdir()
            table = pa.table({"ids": pa.array([[1, 2, 3], [4, 5, 6]])})
            pq.write_table(table, folder / "sample" / "candidates.parquet")
    return SimpleNamespace(exists=lambda stage: (root / stage).is_dir(), path=lambda *parts: root.joinpath(*parts))


def test_pairs_count_both_responses_of_every_step(tmp_path: Path) -> None:
    """4 steps of 10 pairs with 5 + 7 tokens, then 2 with 6 + 4; round 2 has one step of 10 pairs with 8 + 8."""
    first = [
        {"step": 4, "lengths/chosen": 5.0, "lengths/rejected": 7.0},
        {"step": 6, "lengths/chosen": 6.0, "lengths/rejected": 4.0},
        {"step": 6, "train_runtime": 3.0},
    ]
    second = [{"step": 1, "lengths/chosen": 8.0, "lengths/rejected": 8.0}]
    found = run_cost(run(tmp_path, first, second), settings(rounds=2), [], 1.5)
    assert found == CostFigures(seconds=1.5, sampled=6.0, trained=4 * 10 * 12 + 2 * 10 * 10 + 160)


def test_supervised_training_counts_the_chosen_response(tmp_path: Path) -> None:
    found = run_cost(run(tmp_path, [{"step": 3, "lengths/chosen": 5.0}]), settings(), [], 1.5)
    assert (found.sampled, found.trained) == (0, 150)


def test_other_forms_of_preference_do_not_say_what_they_trained_on(tmp_path: Path) -> None:
    assert run_cost(run(tmp_path, [{"step": 3, "lengths/responses": 5.0}]), settings(), [], 1.5).trained is None


def test_a_training_on_a_reward_counts_its_responses(tmp_path: Path) -> None:
    """2 steps of 10 prompts with 3 responses of 4 tokens, then 3 steps with 6 tokens; each is trained on twice."""
    curve = [RewardStep(2, 0.0, {}, None, 4.0), RewardStep(5, 0.0, {}, None, 6.0)]
    rlhf = SimpleNamespace(responses=3, updates_per_step=2)
    found = run_cost(run(tmp_path), settings(rlhf=rlhf), curve, 1.5)
    assert (found.sampled, found.trained) == (240 + 540, 2 * 780)

"""Responses to other prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from training_helpers import metrics, policy_model, run_training, training_data

from seralign.config import TrainingConfig
from seralign.errors import ConfigError
from seralign.objectives import DPO, KTO, one
from seralign.training import mismatched
from seralign.training.mismatched import partners, with_mismatched

SAID = one("kto", KTO())


def table(prompts: list[list[int]], responses: list[list[int]], labels: list[float]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({
        "example_id": [f"e{row}" for row in range(len(prompts))], "prompt_ids": prompts,
        "response_ids": [[ids] for ids in responses], "form": ["label"] * len(prompts),
        "preference": [[label] for label in labels], "weight": [1.0] * len(prompts),
    })  # fmt: skip


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=12), st.integers(0, 3))
def test_a_partner_has_another_prompt(prompts: list[str], seed: int) -> None:
    found = partners([prompt.encode() for prompt in prompts], seed)
    if len(set(prompts)) == 1:
        assert found is None
        return
    assert found is not None
    assert all(prompts[row] != prompts[other] for row, other in enumerate(found))
    if len(set(prompts)) == len(prompts):
        assert sorted(found.tolist()) == list(range(len(prompts)))


@pytest.mark.parametrize("together", [10_000, 2])
def test_the_second_response_answers_another_prompt_and_fits(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mismatched, "_TOGETHER", together)
    given_ids = [[5, 6, 7, 8], [9, 9], [4]]
    made = with_mismatched(table([[1], [2, 2, 2], [3, 3]], given_ids, [1.0, 0.0, 1.0]), SAID, 0, 5, "data.pairs")
    for row, (own, other) in enumerate(made["response_ids"]):
        assert own == given_ids[row]
        room = 5 - len(made["prompt_ids"][row])
        assert other in [ids[:room] for place, ids in enumerate(given_ids) if place != row]
    stored = np.array(made["preference"][:])
    np.testing.assert_array_equal(stored, [[1, np.nan], [0, np.nan], [1, np.nan]])
    assert made["example_id"][:] == ["e0", "e1", "e2"]


def test_the_table_is_in_a_file_that_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that Arrow holds does not grow with the table; a run resumes in a folder without other files."""
    count = 12_000
    rows = table([[row] for row in range(count)], [[row] * 50 for row in range(count)], [1.0] * count)
    file = tmp_path / "rows.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, rows.data.table.schema) as writer:
        writer.write_table(rows.data.table)
    rows = datasets.Dataset.from_file(str(file))
    folder = tmp_path / "stage"
    folder.mkdir()
    before = pa.total_allocated_bytes()
    # It pickles all rows.
    monkeypatch.delattr("datasets.arrow_dataset.generate_fingerprint")
    made = with_mismatched(rows, SAID, 0, 64, "data.pairs", folder)
    assert pa.total_allocated_bytes() - before < 500_000, "5 MB of tokens"
    assert list(folder.iterdir()) == []
    assert len(made) == count
    first, second = made[count - 1]["response_ids"]
    assert first == [count - 1] * 50
    assert len(set(second)) == 1
    assert second[0] != count - 1
    assert sorted(ids[1][0] for ids in made["response_ids"]) == list(range(count)), "each response is given once"


def test_it_is_needed_and_possible_or_not() -> None:
    rows = table([[1], [1]], [[2], [3]], [1.0, 0.0])
    assert with_mismatched(rows, one("dpo", DPO()), 0, 9, "data.pairs") is rows
    with pytest.raises(ConfigError, match=r"^objective\.name: kto compares with responses to other prompts, but all "):
        with_mismatched(rows, SAID, 0, 9, "data.pairs")


def test_packs_change_nothing_in_the_loss_of_a_step(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """The divergence is that of the whole step, however it is divided."""
    random = np.random.default_rng(0)
    model = tiny_model("llama")
    ids = [[random.integers(3, 20, size=random.integers(1, 9)).tolist() for _ in range(13)] for _ in range(2)]
    rows = table(ids[0], [[*own, 2] for own in ids[1]], [float(row % 2) for row in range(13)])
    made = with_mismatched(rows, SAID, 0, 64, "data.pairs")
    found = []
    for name, tokens in (("packed", 5000), ("split", 30)):
        config = TrainingConfig(
            max_steps=4, batch_size=6, tokens_per_pack=tokens, optimizer="sgd", learning_rate=0.5, warmup=0.0,
            log_steps=1, save_steps=100,
        )  # fmt: skip
        run_training(policy_model(model), tmp_path / name, training_data(model, made, SAID, config), SAID, config)
        (file,) = (tmp_path / name / "policy").glob("*.safetensors")
        found.append((load_file(file), [line for line in metrics(tmp_path / name) if "loss" in line]))
    (weights, lines), (others, other_lines) = found
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], rtol=1e-4, atol=1e-6)
    for line, other in zip(lines, other_lines, strict=True):
        assert line == pytest.approx(other, rel=1e-3, abs=1e-5)
    assert lines[0]["loss"] == 0.5
    assert lines[-1]["loss"] < 0.5
    assert {"rewards/desirable", "rewards/undesirable", "rewards/margins"} <= lines[-1].keys()

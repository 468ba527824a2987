"""Two processes (torchrun, gloo, on the CPU) that divide a model between them train what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import divided_training
import pytest
from safetensors.torch import load_file
from torch import Tensor
from training_helpers import metrics
from transformers import AutoModelForCausalLM


def launch(model: Path, folder: Path, *words: str) -> None:
    """The training in two processes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    # pytest finds the helpers of all tests; a process of its own does not.
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *(path for path in sys.path if path)])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, divided_training.__file__, str(model), str(folder), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def folders(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The model, what one process made of it, and what two did."""
    model, made = tiny_model("llama"), tmp_path_factory.mktemp("divided")
    one, two = made / "one", made / "two"
    for folder in (one, two):
        folder.mkdir()
    divided_training.main(model, one)
    launch(model, two)
    return model, one, two


def found(folder: Path, rank: int) -> dict[str, Any]:
    return json.loads((folder / f"found-{rank}.json").read_text())


@pytest.mark.timeout(200)
def test_each_process_holds_a_part_of_every_weight(folders: tuple[Path, Path, Path]) -> None:
    _, one, two = folders
    first, second = (found(two, rank)["held"] for rank in (0, 1))
    assert first.keys() == found(one, 0)["held"].keys()
    for name, (own, whole) in found(one, 0)["held"].items():
        assert own == whole == first[name][1] == second[name][1]
        assert first[name][0] < whole
        assert first[name][0] + second[name][0] == whole


def test_a_divided_reference_scores_to_the_last_bit(folders: tuple[Path, Path, Path]) -> None:
    _, one, two = folders
    assert any(found(one, 0)["reference"])
    assert found(two, 0)["reference"] == found(two, 1)["reference"] == found(one, 0)["reference"]


@pytest.mark.parametrize(("case", "file"), [("whole", "model.safetensors"), ("lora", "adapter_model.safetensors")])
def test_weights_and_metrics_are_those_of_one_process(folders: tuple[Path, Path, Path], case: str, file: str) -> None:
    model, one, two = folders
    assert_same(one / case, two / case, file, load_file(model / "model.safetensors"))


@pytest.mark.real
@pytest.mark.timeout(300)
def test_a_divided_reward_model_trains_as_a_whole_one(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    model, one, two = tiny_model("llama"), tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    divided_training.reward(model, one)
    launch(model, two, "reward")
    parts = [found(two, rank)["held"] for rank in (0, 1)]
    for name, (own, whole) in found(one, 0)["held"].items():
        assert own == whole == sum(part[name][0] for part in parts)
        # A score of one row is with one process.
        assert all(part[name][0] < whole for part in parts) or name.startswith("score.")
    assert_same(one / "reward", two / "reward", "model.safetensors", load_file(model / "model.safetensors"))


def assert_same(one: Path, two: Path, file: str, start: dict[str, Tensor]) -> None:
    """Two trainings moved the weights, and alike, with the same metrics."""
    weights, others = (load_file(folder / "policy" / file) for folder in (one, two))
    assert weights.keys() == others.keys()
    moved = [(value - start[name] if name in start else value).abs().max() for name, value in weights.items()]
    assert max(moved) > 1e-3
    assert max(float((value - others[name]).abs().max()) for name, value in weights.items()) < 1e-6
    lines, theirs = metrics(one), metrics(two)
    assert [line["step"] for line in lines] == [line["step"] for line in theirs]
    for line, other in zip(lines, theirs, strict=True):
        assert line == pytest.approx(other, rel=1e-4, abs=1e-5)
        for name in ("loss", "eval_loss"):
            if name in line:
                assert line[name] == pytest.approx(other[name], abs=1e-6)


def test_a_resumed_training_ends_with_the_same_weights(folders: tuple[Path, Path, Path]) -> None:
    *_, two = folders
    weights, others = (load_file(two / case / "policy" / "model.safetensors") for case in ("whole", "resumed"))
    assert max(float((value - others[name]).abs().max()) for name, value in weights.items()) < 1e-7
    assert metrics(two / "resumed") == metrics(two / "whole")


def test_margins_begin_at_zero_in_mixed_precision(folders: tuple[Path, Path, Path]) -> None:
    *_, two = folders
    first, *_ = metrics(two / "bfloat16")
    assert (first["step"], first["eval_margins"]) == (0, 0.0)
    assert metrics(two / "bfloat16")[-1]["eval_margins"] != 0.0


def test_checkpoints_and_the_policy_open_in_one_process(folders: tuple[Path, Path, Path]) -> None:
    *_, two = folders
    for folder in (two / "whole" / "policy", two / "whole" / "scratch" / "checkpoint-2"):
        opened = AutoModelForCausalLM.from_pretrained(folder)
        shapes = {name: tuple(weight.shape) for name, weight in opened.state_dict().items()}
        assert {name: tuple(value.shape) for name, value in load_file(folder / "model.safetensors").items()} == shapes

"""Killed anywhere and called again: the weights and the lines of metrics of a training that was never killed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_helpers import metrics, policy_model, random_pairs, run_training, training_data

from seralign.config import LoraConfig, TrainingConfig
from seralign.errors import StoreError
from seralign.objectives import DPO, one
from seralign.runs.sealed import write_sealed
from seralign.training import checkpoints
from seralign.training.checkpoints import CheckpointMarker, last_checkpoint
from seralign.training.trainer import PreferenceTrainer

# 10 steps, a checkpoint every 4, a line every 3, an evaluation every 5: none falls on the others.
SETTINGS: dict[str, Any] = {
    "max_steps": 10, "batch_size": 6, "tokens_per_pack": 150, "learning_rate": 1e-2, "save_steps": 4, "log_steps": 3,
    "eval_steps": 5,
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


class Killed(BaseException):
    """Not an Exception: nothing may catch it and tidy up."""


def run(model: Path, folder: Path, lora: LoraConfig | None = None, **changed: Any) -> dict[str, Any]:
    config = TrainingConfig(**(SETTINGS | changed))
    objective = one("dpo", DPO(0.1))
    data = training_data(model, random_pairs(20), objective, config, heldout=random_pairs(5, seed=1))
    return run_training(policy_model(model, lora), folder, data, objective, config)


def kill_at(monkeypatch: pytest.MonkeyPatch, event: str, step: int) -> None:
    """Die in ``event`` of the step, before anything of it is done."""
    original = getattr(CheckpointMarker, event, None)

    def die(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == step:
            raise Killed
        if original is not None:
            original(self, args, state, control, **kwargs)

    monkeypatch.setattr(CheckpointMarker, event, die)


@pytest.fixture(scope="module")
def whole(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was never killed."""
    folder = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    run(tiny_model("llama"), folder)
    return folder


def assert_as_if_never_killed(folder: Path, whole: Path) -> None:
    (file,) = [path.name for path in (whole / "policy").glob("*.safetensors")]
    weights, expected = load_file(folder / "policy" / file), load_file(whole / "policy" / file)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert [line["step"] for line in metrics(whole)] == [0, 3, 4, 5, 6, 8, 9, 10, 10]


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("plain", {}),
        ("bfloat16", {"precision": "bfloat16"}),
        ("lora", {"lora": LoraConfig(r=4, alpha=8)}),
    ],
)
def test_a_killed_training_goes_on_from_its_checkpoint(
    tiny_model: Callable[[str], Path], tmp_path: Path, variant: str, settings: dict[str, Any]
):
    model = tiny_model("llama")
    figures = run(model, tmp_path / "whole", **settings)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, "on_step_end", 7)
        with pytest.raises(Killed):
            run(model, tmp_path / "killed", **settings)

    assert not (tmp_path / "killed" / "policy").exists()
    resumed = run(model, tmp_path / "killed", **settings)
    # Held-out values from before the checkpoint are not computed again; those after the last step are.
    assert resumed | {"heldout_values": None} == figures | {"heldout_values": None}
    assert np.array_equal(resumed["heldout_values"][10], figures["heldout_values"][10])
    assert_as_if_never_killed(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(
    ("event", "step", "newest"),
    [
        ("on_step_end", 2, None),  # before any checkpoint: from the beginning
        ("on_save", 4, None),  # the first checkpoint is half-written
        ("on_save", 8, "checkpoint-4"),  # the second one is
        ("on_save", 10, "checkpoint-8"),  # the last step is done, its checkpoint is not
        ("on_train_end", 10, "checkpoint-10"),  # everything is done but the saving
    ],
)
def test_killed_at_any_moment(
    tiny_model: Callable[[str], Path], whole: Path, tmp_path: Path, event: str, step: int, newest: str | None
):
    model = tiny_model("llama")
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, event, step)
        with pytest.raises(Killed):
            run(model, tmp_path / "killed")
    found = last_checkpoint(tmp_path / "killed" / "scratch")

    assert (found.name if found else None) == newest
    run(model, tmp_path / "killed")
    assert_as_if_never_killed(tmp_path / "killed", whole)


def test_killed_twice_and_while_the_policy_is_saved(tiny_model: Callable[[str], Path], whole: Path, tmp_path: Path):
    model = tiny_model("llama")
    for event, step in (("on_step_end", 5), ("on_step_end", 9)):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, event, step)
            with pytest.raises(Killed):
                run(model, tmp_path / "killed")
    save = PreferenceTrainer.save_model

    def die(self: Any, output_dir: str | None = None, _internal_call: bool = False) -> None:
        save(self, output_dir, _internal_call)
        if not _internal_call:
            (Path(str(output_dir)) / "model.safetensors").write_bytes(b"half of it")
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreferenceTrainer, "save_model", die)
        with pytest.raises(Killed):
            run(model, tmp_path / "killed")
    run(model, tmp_path / "killed")

    assert_as_if_never_killed(tmp_path / "killed", whole)


@pytest.mark.parametrize("harm", ["changed", "missing", "marker", "no digests"])
def test_the_checkpoint_before_a_damaged_one_is_used(
    tiny_model: Callable[[str], Path],
    whole: Path,
    tmp_path: Path,
    harm: str,
    capsys: pytest.CaptureFixture[str],
):
    model = tiny_model("llama")
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, "on_step_end", 9)
        with pytest.raises(Killed):
            run(model, tmp_path / "killed")
    newest = tmp_path / "killed" / "scratch" / "checkpoint-8"
    file = newest / ("optimizer.pt" if harm in ("changed", "missing") else "complete.json")
    if harm == "missing":
        file.unlink()
    elif harm == "no digests":
        file.write_text("{}")
    else:
        file.write_bytes(file.read_bytes()[:-9])

    capsys.readouterr()
    run(model, tmp_path / "killed")
    said = " ".join(capsys.readouterr().err.split())
    assert f"warning: {newest}: the checkpoint is damaged ({file.name}" in said
    assert "resuming from checkpoint-4" in said
    assert_as_if_never_killed(tmp_path / "killed", whole)


def test_a_checkpoint_that_cannot_be_read_is_kept(tmp_path: Path):
    (tmp_path / "checkpoint-8").mkdir()
    write_sealed(tmp_path / "checkpoint-8" / "complete.json", {"optimizer.pt": "0" * 64})
    (tmp_path / "checkpoint-8" / "optimizer.pt").write_bytes(b"x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "file_digest", _unreadable)
        with pytest.raises(StoreError, match=r"checkpoint-8/optimizer.pt: cannot be read: Input/output error$"):
            last_checkpoint(tmp_path)
    assert (tmp_path / "checkpoint-8" / "optimizer.pt").is_file()


def _unreadable(path: Path) -> str:
    raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))


def test_the_result_is_a_model_and_holds_no_pickle(whole: Path):
    names = {path.name for path in (whole / "policy").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pth"))}

"""A reference that follows the policy: where it is after each step, and in a training that is killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_helpers import metrics, policy_model, random_pairs, run_training, training_data

from seralign.config import LoraConfig, TrainingConfig, load_config
from seralign.errors import ConfigError
from seralign.objectives import AOT, DPO, ObjectiveSum, one
from seralign.training.checkpoints import CheckpointMarker
from seralign.training.moving import Moves, MovingReference

SETTINGS: dict[str, Any] = {
    "max_steps": 6, "batch_size": 6, "tokens_per_pack": 100, "learning_rate": 1e-2, "warmup": 0.0, "log_steps": 1,
    "eval_steps": 3, "save_steps": 2,
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


class Killed(BaseException):
    """Not an Exception: nothing may catch it and tidy up."""


def run(
    model: Path, folder: Path, moves: Moves | None, lora: LoraConfig | None = None,
    objective: ObjectiveSum | None = None, **changed: Any,
) -> dict[str, torch.Tensor]:  # fmt: skip
    config, objective = TrainingConfig(**(SETTINGS | changed)), objective or one("dpo", DPO(0.1))
    data = training_data(model, random_pairs(12), objective, config, heldout=random_pairs(5, seed=1))
    if moves is not None:
        data = replace(data, reference=None, heldout_reference=None, moves=moves)
    run_training(policy_model(model, lora), folder, data, objective, config)
    (file,) = (folder / "policy").glob("*.safetensors")
    return load_file(file)


def test_a_hard_update_makes_every_margin_zero(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    run(tiny_model("llama"), tmp_path / "run", Moves(2, 1.0))
    lines = metrics(tmp_path / "run")
    steps = {line["step"]: line["margins"] for line in lines if "margins" in line}
    assert [step for step, margin in steps.items() if margin == 0.0] == [1, 3, 5]
    heldout = {line["step"]: line["eval_margins"] for line in lines if "eval_margins" in line}
    assert heldout[0] == 0.0
    assert heldout[3] != 0.0
    assert heldout[6] == 0.0  # the policy is the reference since this very step


def test_a_soft_update_mixes_the_weights(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    model = tiny_model("llama")
    run(model, tmp_path / "run", Moves(2, 0.25), max_steps=4)
    start = load_file(model / "model.safetensors")
    scratch = tmp_path / "run" / "scratch"
    policies = [load_file(scratch / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4)]
    references = [load_file(scratch / f"checkpoint-{step}" / "reference.safetensors") for step in (2, 4)]
    for name, first in references[0].items():
        expected = 0.25 * policies[0][name] + 0.75 * start[name]
        torch.testing.assert_close(first, expected, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(
            references[1][name], 0.25 * policies[1][name] + 0.75 * expected, rtol=1e-5, atol=1e-7
        )
    assert max(float((references[0][name] - start[name]).abs().max()) for name in references[0]) > 1e-4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_reference_that_never_moves_is_the_usual_one(
    tiny_model: Callable[[str], Path], tmp_path: Path, precision: str
) -> None:
    model = tiny_model("llama")
    settings = {"max_steps": 2, "precision": precision, "save_steps": 100}
    usual = run(model, tmp_path / "usual", None, **settings)
    still = run(model, tmp_path / "still", Moves(100, 1.0), **settings)
    assert all(torch.equal(weight, still[name]) for name, weight in usual.items())
    assert metrics(tmp_path / "usual") == metrics(tmp_path / "still")


@pytest.mark.parametrize("variant", ["whole", "lora", "step"])
def test_killed_and_resumed_with_its_reference(tiny_model: Callable[[str], Path], tmp_path: Path, variant: str) -> None:
    """The same bytes as a training that was never killed."""
    model = tiny_model("llama")
    settings: dict[str, Any] = {
        "whole": {}, "lora": {"lora": LoraConfig(r=4, alpha=8)}, "step": {"objective": one("aot", AOT(0.1))},
    }[variant]  # fmt: skip
    whole = run(model, tmp_path / "whole", Moves(1, 0.3), **settings)
    original = CheckpointMarker.on_step_end

    def die(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 5:
            raise Killed
        original(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointMarker, "on_step_end", die)
        with pytest.raises(Killed):
            run(model, tmp_path / "killed", Moves(1, 0.3), **settings)
    resumed = run(model, tmp_path / "killed", Moves(1, 0.3), **settings)
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())
    assert (tmp_path / "killed" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_the_policy_is_back_after_an_error(tiny_model: Callable[[str], Path]) -> None:
    model = policy_model(tiny_model("llama"))
    moving = MovingReference(model, Moves(1, 1.0))
    weight = next(model.parameters())
    start = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(2)
    seen = []

    def fail() -> None:
        with moving.in_place():
            seen.append(weight.detach().clone())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(seen[0], start)
    assert torch.equal(weight, 2 * start)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"reference.mixup": 0.5}, "reference.mixup has no effect without sync_steps; set sync_steps, or remove it"),
        ({"reference.sync_steps": 0}, "reference.sync_steps must be at least 1, or null, got 0"),
        ({"reference.sync_steps": 1, "reference.mixup": 0.0}, "reference.mixup must be in (0, 1], got 0.0"),
        ({"reference.sync_steps": 1, "reference.model": "m"},
         "reference.sync_steps moves the reference from the policy itself; remove it, or model"),
        ({"reference.sync_steps": 1, "objective.name": "simpo"},
         "reference.sync_steps: simpo has no reference to move; remove it"),
        ({"reference.sync_steps": 1, "rounds": 2},
         "reference.sync_steps: each round begins with the policy as the reference; set reference.update: each_round, "
         "or rounds: 1"),
        ({"reference.sync_steps": 1, "reference.update": "each_round", "policy.start": "initial"},
         "reference.sync_steps: each round begins with the policy as the reference; set policy.start: previous, or "
         "rounds: 1"),
        ({"reference.ref_model_mixup_alpha": 0.6},
         "reference.ref_model_mixup_alpha: unknown key; did you mean reference.mixup?"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_names_the_key(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"out": "x", "world": {}} | values)
    assert str(caught.value) == says

"""The mean of the last steps' weights: by hand, through a kill, and where it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_training_resume import Killed, kill_at
from training_helpers import metrics, policy_model, random_pairs, run_training, training_data
from transformers import TrainerCallback

from seralign.config import LoraConfig, TrainingConfig
from seralign.errors import ConfigError
from seralign.objectives import DPO, one
from seralign.training.averaging import TailAverage

STEPS = 10
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def run(model: Path, folder: Path, average: float, lora: LoraConfig | None = None) -> dict[str, Any]:
    config = TrainingConfig(
        max_steps=STEPS, batch_size=6, tokens_per_pack=150, learning_rate=1e-2, save_steps=4, log_steps=3, eval_steps=5,
        average=average,
    )  # fmt: skip
    objective = one("dpo", DPO(0.1))
    data = training_data(model, random_pairs(20), objective, config, heldout=random_pairs(5, seed=1))
    return run_training(policy_model(model, lora), folder, data, objective, config)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = (folder / "policy").glob("*.safetensors")
    return load_file(file)


@pytest.fixture
def iterates(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The weights after each step of the next training, in float64."""
    seen: list[dict[str, torch.Tensor]] = []
    on_step_end = TailAverage.on_step_end

    def note(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seen.append({name: weight.detach().double() for name, weight in self._weights.items()})
        on_step_end(self, args, state, control, **kwargs)

    monkeypatch.setattr(TailAverage, "on_step_end", note)
    return seen


@pytest.mark.parametrize(("share", "counted"), [(0.05, 1), (0.3, 3), (0.5, 5), (1.0, 10)])
def test_it_is_the_mean_of_the_last_steps(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    iterates: list[dict[str, torch.Tensor]],
    share: float,
    counted: int,
) -> None:
    figures = run(tiny_model("llama"), tmp_path, share)
    found = weights(tmp_path)
    assert len(iterates) == STEPS
    for name, value in found.items():
        mean = torch.stack([step[name] for step in iterates[-counted:]]).mean(dim=0)
        torch.testing.assert_close(value.double(), mean, rtol=1e-6, atol=1e-7)
    lines = [line for line in metrics(tmp_path) if "eval_loss" in line]
    assert [line["step"] for line in lines] == [0, 5, 10, 10]
    assert figures["heldout"] == lines[-1]
    assert (lines[-1]["eval_loss"] == lines[-2]["eval_loss"]) == (counted == 1), "the last line measures the mean"


@pytest.mark.parametrize("step", [3, 7, 9])
@pytest.mark.parametrize("lora", [None, LoraConfig(r=4, alpha=8)], ids=["full", "lora"])
def test_a_killed_training_ends_with_the_same_mean(
    tiny_model: Callable[[str], Path], tmp_path: Path, lora: LoraConfig | None, step: int
) -> None:
    """Steps 6 to 10 count; checkpoints are made after steps 4 and 8."""
    run(tiny_model("llama"), tmp_path / "whole", 0.5, lora)
    with pytest.MonkeyPatch.context() as patched:
        kill_at(patched, "on_step_end", step)
        with pytest.raises(Killed):
            run(tiny_model("llama"), tmp_path / "killed", 0.5, lora)
    run(tiny_model("llama"), tmp_path / "killed", 0.5, lora)
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert all(torch.equal(value, killed[name]) for name, value in whole.items())
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "killed")


def test_the_mean_is_in_a_checkpoint_before_it_is_marked_as_whole(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest is among those that are checked when training resumes."""
    from seralign.training import checkpoints

    found: list[bool] = []
    on_save = checkpoints.CheckpointMarker.on_save

    def look(self: TrainerCallback, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        found.append((Path(args.output_dir) / f"checkpoint-{state.global_step}" / "average.safetensors").is_file())
        on_save(self, args, state, control, **kwargs)  # pyright: ignore

    monkeypatch.setattr(checkpoints.CheckpointMarker, "on_save", look)
    run(tiny_model("llama"), tmp_path, 0.5)
    assert found == [False, True, True][: len(found)]
    assert len(found) >= 2


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"average must be in \[0, 1\]"):
        TrainingConfig(average=share)

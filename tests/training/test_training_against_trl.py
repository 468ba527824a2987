"""The same model, data and settings in TRL's trainers and in ours: the same losses, the same weights at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiny
import torch
from torch import nn
from training_helpers import metrics, policy_model, random_pairs, run_training, training_data
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from seralign.config import TrainingConfig
from seralign.laboratory.model import build_tokenizer
from seralign.objectives import OBJECTIVES, one
from seralign.policy.quiet import quiet_transformers
from seralign.training.moving import Moves

STEPS, PAIRS = 5, 8


class TokenizedDPOTrainer(DPOTrainer):
    """TRL's trainer on ids as they are, so that both sides see the same tokens."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def settings(folder: Path, optimizer: str) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": PAIRS,
        "max_steps": STEPS,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "max_grad_norm": 1.0,
        "optim": optimizer,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "max_length": None,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def losses_and_weights(trainer: Any) -> tuple[list[float], nn.Module]:
    with quiet_transformers():
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], trainer.model


def ours(
    model: Path, folder: Path, name: str, pairs: datasets.Dataset, optimizer: str, moves: Moves | None = None
) -> tuple[list[float], nn.Module]:
    config = TrainingConfig(
        max_steps=STEPS, batch_size=PAIRS, tokens_per_pack=100, learning_rate=1e-2, warmup=0.0, optimizer=optimizer,
        log_steps=1,
    )  # fmt: skip
    objective = one(name, OBJECTIVES[name]())
    policy = policy_model(model)
    data = training_data(model, pairs, objective, config)
    if moves is not None:
        data = replace(data, reference=None, moves=moves)
    assert data.plan.accumulation > 1
    run_training(policy, folder, data, objective, config)
    return [line["loss"] for line in metrics(folder)], policy


def assert_same(one: nn.Module, two: nn.Module, start: nn.Module, tolerance: float) -> None:
    """The trained weights differ by at most ``tolerance`` of the way that they went."""
    first, second, before = ({n: v.detach() for n, v in model.named_parameters()} for model in (one, two, start))
    apart = sum(float((first[name] - second[name]).square().sum()) for name in before) ** 0.5
    moved = sum(float((first[name] - before[name]).square().sum()) for name in before) ** 0.5
    assert moved > 0.01
    assert apart <= tolerance * moved


# Adam divides by the root of the squared gradient: where a gradient is all rounding its direction is too.
@pytest.mark.parametrize(("optimizer", "tolerance"), [("sgd", 1e-4), ("adamw_torch", 1e-2)])
def test_dpo_is_trls(tiny_model: Callable[[str], Path], tmp_path: Path, optimizer: str, tolerance: float):
    pairs = random_pairs(PAIRS, seed=4)
    model = tiny_model("llama")
    with quiet_transformers():
        trainer = TokenizedDPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model),
            args=DPOConfig(beta=0.1, **settings(tmp_path / "trl", optimizer)),
            train_dataset=tiny.as_pairs(pairs).select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]),
            processing_class=build_tokenizer(),
        )
    expected, trl_model = losses_and_weights(trainer)
    found, our_model = ours(model, tmp_path / "ours", "dpo", pairs, optimizer)

    assert len(expected) == STEPS
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected[-1] < expected[0]
    assert_same(our_model, trl_model, policy_model(model), tolerance)


def test_a_moving_reference_is_trls(tiny_model: Callable[[str], Path], tmp_path: Path):
    """TR-DPO: the reference takes 0.6 of the policy's weights every second step."""
    pairs = random_pairs(PAIRS, seed=4)
    model = tiny_model("llama")
    with quiet_transformers():
        trainer = TokenizedDPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model),
            ref_model=AutoModelForCausalLM.from_pretrained(model),
            args=DPOConfig(
                beta=0.1, sync_ref_model=True, ref_model_sync_steps=2, ref_model_mixup_alpha=0.6,
                **settings(tmp_path / "trl", "sgd"),
            ),
            train_dataset=tiny.as_pairs(pairs).select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]),
            processing_class=build_tokenizer(),
        )  # fmt: skip
    expected, trl_model = losses_and_weights(trainer)
    found, our_model = ours(model, tmp_path / "ours", "dpo", pairs, "sgd", Moves(2, 0.6))
    still, _ = ours(model, tmp_path / "still", "dpo", pairs, "sgd")

    assert found == pytest.approx(expected, rel=1e-4)
    assert found[:2] == pytest.approx(still[:2], rel=1e-6)
    assert abs(found[2] - still[2]) > 1e-3
    assert_same(our_model, trl_model, policy_model(model), 1e-4)


def test_sft_is_trls_loss_on_the_completion_only(tiny_model: Callable[[str], Path], tmp_path: Path):
    pairs = random_pairs(PAIRS, seed=4)
    rows = [
        {
            "input_ids": [*row["prompt_ids"], *row["chosen_ids"]],
            "completion_mask": [0] * len(row["prompt_ids"]) + [1] * len(row["chosen_ids"]),
        }
        for row in map(dict, tiny.as_pairs(pairs))
    ]
    model = tiny_model("llama")
    with quiet_transformers():
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(model),
            args=SFTConfig(completion_only_loss=True, **settings(tmp_path / "trl", "sgd")),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=build_tokenizer(),
        )
    expected, trl_model = losses_and_weights(trainer)
    found, our_model = ours(model, tmp_path / "ours", "sft", pairs, "sgd")

    assert found == pytest.approx(expected, rel=1e-4)
    assert_same(our_model, trl_model, policy_model(model), 1e-4)
    assert not torch.equal(next(our_model.parameters()), next(policy_model(model).parameters()))

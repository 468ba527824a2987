"""Trainings, divided over as many processes as the launcher started: ``python divided_training.py MODEL FOLDER``.

One process does the same undivided. With a third word, ``reward``, it is a reward model.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from training_helpers import divided_in, policy_model, random_pairs, reference_logps, run_training, training_data

from seralign import distributed
from seralign.config import LoraConfig, TrainingConfig
from seralign.objectives import AOT, BCO, DPO, ObjectiveSum, Reward, Term, one
from seralign.policy.heads import REWARD
from seralign.runs.layout import POLICY, SCRATCH
from seralign.training.moving import Moves

# A loss of its own pairs, one with a state of all steps before, and one of the whole step.
_ALL = ObjectiveSum((Term("dpo", DPO(0.1)), Term("bco", BCO(0.1)), Term("aot", AOT(0.1))))
STEPS: dict[str, Any] = {
    "max_steps": 4, "batch_size": 5, "tokens_per_pack": 30, "learning_rate": 0.01, "warmup": 0.0, "log_steps": 2,
    "save_steps": 2, "max_grad_norm": 0.5, "precision": "float32",
    # Adam divides by the size of a gradient: without this, the last digits of a tiny one would move its weight.
    "extra": {"adam_epsilon": 1e-2},
}  # fmt: skip


def main(model: Path, folder: Path) -> None:
    """Train all weights with their average, a LoRA adapter against a reference that moves, and in bfloat16."""
    torch.set_num_threads(1)
    distributed.start()
    shard = "fsdp" if distributed.world_size() > 1 else "none"
    pairs, heldout = random_pairs(17, soft=True), random_pairs(7, seed=1, soft=True)
    config = TrainingConfig(**STEPS, shard=shard, average=0.5)
    data = training_data(model, pairs, _ALL, config, heldout)
    scored = reference_logps(model, pairs, data.plan.packs, config)
    policy = policy_model(model, divided=divided_in(config))
    held = _held(policy)
    run_training(policy, folder / "whole", data, _ALL, config)
    assert _held(policy) == held
    forget_the_end(folder / "whole", folder / "resumed")
    run_training(policy_model(model, divided=divided_in(config)), folder / "resumed", data, _ALL, config)

    lora, moves = LoraConfig(r=4), Moves(2, 0.5)
    config = TrainingConfig(**STEPS, shard=shard, gradient_checkpointing=True)
    data = training_data(model, pairs, one("dpo", DPO(0.1)), config, heldout, moves=moves)
    policy = policy_model(model, lora, divided=divided_in(config))
    run_training(policy, folder / "lora", data, one("dpo", DPO(0.1)), config)

    config = TrainingConfig(**STEPS | {"max_steps": 1, "precision": "bfloat16"}, shard=shard)
    data = training_data(model, pairs, one("dpo", DPO(0.1)), config, heldout)
    policy = policy_model(model, divided=divided_in(config))
    run_training(policy, folder / "bfloat16", data, one("dpo", DPO(0.1)), config)
    found = {"held": held, "reference": np.nan_to_num(scored).tolist()}
    (folder / f"found-{distributed.rank()}.json").write_text(json.dumps(found))


def reward(model: Path, folder: Path) -> None:
    """Train a reward model, all its weights and its score."""
    torch.set_num_threads(1)
    distributed.start()
    shard = "fsdp" if distributed.world_size() > 1 else "none"
    config, objective = TrainingConfig(**STEPS, shard=shard), one("reward", Reward())
    data = training_data(model, random_pairs(17, soft=True), objective, config, random_pairs(7, seed=1, soft=True))
    policy = policy_model(model, divided=divided_in(config), head=REWARD)
    run_training(policy, folder / "reward", data, objective, config)
    (folder / f"found-{distributed.rank()}.json").write_text(json.dumps({"held": _held(policy)}))


def _held(policy: nn.Module) -> dict[str, tuple[int, int]]:
    """By name, the numbers of a weight that this process holds, and all of them."""
    return {
        name: (weight.to_local().numel() if isinstance(weight, DTensor) else weight.numel(), weight.numel())
        for name, weight in policy.named_parameters()
    }


def forget_the_end(done: Path, folder: Path) -> None:
    """A copy of a training that was killed after its first checkpoint."""
    if distributed.is_main():
        shutil.copytree(done, folder)
        shutil.rmtree(folder / POLICY)
        (last,) = (folder / SCRATCH).rglob("checkpoint-4")
        shutil.rmtree(last)
    distributed.barrier()


if __name__ == "__main__":
    train = reward if sys.argv[3:] == ["reward"] else main
    train(Path(sys.argv[1]), Path(sys.argv[2]))

"""Trainings with DeepSpeed's ZeRO, and in one process without: ``python deepspeed_training.py MODEL FOLDER SHARD``.

In a folder where other processes have begun, a training of theirs is to be ended.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from divided_training import STEPS, forget_the_end
from training_helpers import policy_model, random_pairs, run_training, training_data

import seralign.training.train
from seralign import distributed
from seralign.config import LoraConfig, TrainingConfig
from seralign.objectives import DPO, one
from seralign.training.trainer import PreferenceTrainer

_TRAINERS: list[PreferenceTrainer] = []


class _Kept(PreferenceTrainer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _TRAINERS.append(self)


def main(model: Path, folder: Path, shard: str) -> None:
    """All weights, whole and resumed; a LoRA adapter; and one step in bfloat16."""
    torch.set_num_threads(1)
    distributed.start()
    seralign.training.train.PreferenceTrainer = _Kept  # pyright: ignore
    pairs, heldout, objective = random_pairs(17, soft=True), random_pairs(7, seed=1, soft=True), one("dpo", DPO(0.1))
    config = TrainingConfig(**STEPS, shard=shard)  # pyright: ignore
    if (folder / "whole").is_dir():  # of two processes
        data = training_data(model, pairs, objective, config, heldout)
        forget_the_end(folder / "whole", folder / "elsewhere")
        run_training(policy_model(model), folder / "elsewhere", data, objective, config)
        return
    data = training_data(model, pairs, objective, config, heldout)
    run_training(policy_model(model), folder / "whole", data, objective, config)
    held = _held(_TRAINERS[-1], shard)
    forget_the_end(folder / "whole", folder / "resumed")
    run_training(policy_model(model), folder / "resumed", data, objective, config)
    run_training(policy_model(model, LoraConfig(r=4)), folder / "lora", data, objective, config)
    config = TrainingConfig(**STEPS | {"max_steps": 1, "precision": "bfloat16"}, shard=shard)  # pyright: ignore
    data = training_data(model, pairs, objective, config, heldout)
    run_training(policy_model(model), folder / "bfloat16", data, objective, config)
    (folder / f"found-{distributed.rank()}.json").write_text(json.dumps(held))


def _held(trainer: PreferenceTrainer, shard: str) -> list[int]:
    """How many numbers of the weights and of the optimizer's state this process has, and how many weights there are."""
    engine: Any = trainer.model_wrapped
    weights = list(engine.parameters())
    if shard == "none":
        whole = sum(weight.numel() for weight in weights)
        return [whole, whole, whole]
    state = [part.numel() for group in engine.optimizer.optimizer.state.values() for part in [group["exp_avg"]]]
    if shard == "zero2":
        whole = sum(weight.numel() for weight in weights)
        return [whole, sum(state), whole]
    parts = sum(weight.ds_tensor.numel() for weight in weights)
    return [parts, sum(state), sum(weight.ds_numel for weight in weights)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

"""One training in as many processes as the launcher started: ``python two_processes.py MODEL FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from training_helpers import policy_model, random_pairs, run_training, training_data

from seralign import distributed
from seralign.config import TrainingConfig
from seralign.objectives import AOT, BCO, DPO, ObjectiveSum, Term


def main(model: Path, folder: Path) -> None:
    """Two epochs of 17 pairs, so that packs of no weight occur and an odd number of held-out packs."""
    torch.set_num_threads(1)
    distributed.start()
    # A loss of its own pairs, one with a state of all steps before, and one of the whole step.
    objective = ObjectiveSum((Term("dpo", DPO(0.1)), Term("bco", BCO(0.1)), Term("aot", AOT(0.1))))
    config = TrainingConfig(
        epochs=2, batch_size=5, tokens_per_pack=30, optimizer="sgd", learning_rate=0.1, warmup=0.0, log_steps=2,
        eval_steps=3,
    )  # fmt: skip
    heldout = random_pairs(7, seed=1, soft=True)
    data = training_data(model, random_pairs(17, soft=True), objective, config, heldout=heldout)
    assert not all(pack.counts for pack in data.plan.packs)
    run_training(policy_model(model), folder, data, objective, config)
    if distributed.world_size() > 1:  # after the trainer, which begins a group of its own where there is none
        backend: Any = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        assert backend.options._timeout == distributed.PATIENCE


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

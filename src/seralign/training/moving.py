"""A reference that follows the policy during a training (TR-DPO, 2404.09656)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from seralign import distributed
from seralign.config import ReferenceConfig
from seralign.policy.sharding import is_divided, own_part, part_of, whole

_FILE = "reference.safetensors"


@dataclass(frozen=True)
class Moves:
    """When the reference moves, in optimizer steps, and by which share towards the policy."""

    steps: int
    mixup: float


def moves_of(config: ReferenceConfig) -> Moves | None:
    """How the reference follows the policy, if it does."""
    return None if config.sync_steps is None else Moves(config.sync_steps, config.mixup)


class MovingReference(TrainerCallback):
    """The weights of a reference that begins where the policy does.

    After every ``moves.steps`` steps they become mixup * policy + (1 - mixup) * reference, the paper's soft update; at
    mixup 1 they are the policy's, its hard update. Weights that are not trained are the same in both. The reference is
    part of every checkpoint, so a resumed training goes the same way.

    Args:
        model: The policy at the start of its training.
        moves: When it moves, and how far.
    """

    def __init__(self, model: nn.Module, moves: Moves) -> None:
        self._moves = moves
        self._policy = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._reference = {name: own_part(weight).clone() for name, weight in self._policy.items()}
        self._is_divided = is_divided(model)

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return sum(weight.numel() * weight.element_size() for weight in self._reference.values())

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model computes as the reference in this block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, weight in self._policy.items():
            if self._is_divided:  # FSDP gathers the weight from this memory
                own = own_part(weight)
                policy = own.clone()
                own.copy_(self._reference[name])
                self._reference[name] = policy
            else:
                weight.data, self._reference[name] = self._reference[name], weight.data
        # Mixed precision keeps the weights' casts.
        torch.clear_autocast_cache()

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self._moves.steps == 0:
            for name, weight in self._policy.items():
                self._reference[name].lerp_(own_part(weight), self._moves.mixup)

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        values = {name: whole(value, self._policy[name]).cpu() for name, value in self._reference.items()}
        if distributed.is_main():
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            save_file({name: value.contiguous() for name, value in values.items()}, folder / _FILE)

    def restore(self, checkpoint: Path) -> None:
        """Restore the reference of a checkpoint."""
        for name, value in load_file(checkpoint / _FILE).items():
            self._reference[name].copy_(part_of(value, self._policy[name]))

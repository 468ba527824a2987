"""The mean of the weights over the last steps of a training (tail averaging; Polyak and Juditsky 1992, 1803.05407)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from seralign import distributed
from seralign.policy.sharding import own_part, part_of, whole

_FILE = "average.safetensors"
_COUNT = "steps"


class TailAverage(TrainerCallback):
    """Keeps the running mean of the trained weights, in float32, over the last ``share`` of ``steps``.

    The mean is part of every checkpoint, so a resumed training ends with the same mean.
    """

    def __init__(self, model: nn.Module, share: float, steps: int) -> None:
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._before = min(steps - 1, math.floor((1 - share) * steps))
        self._means: dict[str, torch.Tensor] = {}
        self._count = 0

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step <= self._before:
            return
        self._count += 1
        for name, weight in self._weights.items():
            value = own_part(weight).float()
            if self._count == 1:
                self._means[name] = value.clone()
            else:
                self._means[name].lerp_(value, 1 / self._count)

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if not self._count:
            return
        means = {name: whole(mean, self._weights[name]).cpu().contiguous() for name, mean in self._means.items()}
        if distributed.is_main():
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            save_file(means, folder / _FILE, metadata={_COUNT: str(self._count)})

    def restore(self, checkpoint: Path) -> None:
        """Restore the mean of a checkpoint. A checkpoint before the first averaged step has none."""
        file = checkpoint / _FILE
        if not file.is_file():
            return
        with safe_open(file, framework="pt") as stored:
            self._count = int(stored.metadata()[_COUNT])
            self._means = {name: part_of(stored.get_tensor(name), self._weights[name]) for name in self._weights}

    @torch.no_grad()
    def apply(self) -> None:
        """Set the weights of the model to the mean."""
        for name, mean in self._means.items():
            own_part(self._weights[name]).copy_(mean)

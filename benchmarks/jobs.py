"""What both sides of a benchmark are given and give back."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# DPO: pairs of an optimizer step, beta and the (constant) learning rate. The rate is far above what one would train
# with, so that the loss moves by much more than rounding within a few steps.
STEP_PAIRS = 8
# Ours in training. The peer's batch size is tuned for speed; on a processor this budget is as fast as a run's default
# and takes less memory.
TOKENS_PER_PACK = 2560
BETA = 0.1
LEARNING_RATE = 1e-4
OPTIMIZER = "adamw_torch_fused"
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Job:
    """A folder with ``rows.jsonl``, ``model`` and ``reference``, where a side may write under its own name.

    ``precision`` is that of forward and backward passes, ``order`` the numbers of the rows in the order in which the
    peer gets them. ``tokens_per_pack`` is ours in training.
    """

    folder: Path
    precision: str
    order: tuple[int, ...] = ()
    tokens_per_pack: int = TOKENS_PER_PACK

    def rows(self) -> list[dict[str, Any]]:
        """The rows in the file's order."""
        return [json.loads(line) for line in (self.folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class Trained:
    """A training: loss of each optimizer step, and seconds to the end of the last step: from the end of the first one
    (``seconds``), and from the call (``whole_seconds``)."""

    losses: list[float]
    seconds: float
    whole_seconds: float


@dataclass(frozen=True)
class Scored:
    """Log-probabilities in nats of what was scored, by column and row, and the seconds that it took."""

    logps: list[float]
    seconds: float


def digest(*parts: Iterable[int]) -> str:
    """The identity of a row's token ids, part by part."""
    return hashlib.sha256(json.dumps([list(map(int, part)) for part in parts]).encode()).hexdigest()


@contextmanager
def step_ends() -> Iterator[list[float]]:
    """The time at which each step of any torch optimizer ends, while the block runs; the same clock for both sides.

    On a GPU a step has ended when its kernels have.
    """
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    ends: list[float] = []

    def note(*_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    hook = register_optimizer_step_post_hook(note)
    try:
        yield ends
    finally:
        hook.remove()


def trained(losses: list[float], began: float, ends: list[float], steps: int) -> Trained:
    """A training's result; each step has to have ended once and to have told its loss."""
    if len(ends) != steps or len(losses) != steps:
        raise RuntimeError(f"{steps} steps were asked for; {len(ends)} ended and {len(losses)} told their loss")
    return Trained(losses, ends[-1] - ends[0], ends[-1] - began)

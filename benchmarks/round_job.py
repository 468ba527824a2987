"""What both sides of ``round`` are given and give back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The first round that has all there is: a policy, one before it, and the reference.
ROUND = 3
# Steps of a training whose losses are compared.
CHECKED_STEPS = 3


@dataclass(frozen=True)
class RoundJob:
    """What both sides are given: the settings of a round, and a folder.

    In ``folder``: ``pairs.jsonl`` (``pair_id``, token ids, ``margin_before``: the margin of the round before, which a
    script keeps as seralign does), ``prompts.jsonl``, and the ``run`` whose policies both start from.
    """

    folder: Path
    pairs: int
    prompts: int
    samples: int
    steps: int
    step_pairs: int
    width: int
    layers: int
    vocabulary: int
    supervised_steps: int
    max_new_tokens: int = 26
    beta: float = 0.1
    gamma: float = 0.3
    learning_rate: float = 1e-4
    max_grad_norm: float = 1.0
    optimizer: str = "adamw_torch_fused"
    keep: float = 0.7
    keep_generated: float = 0.6
    share: float = 0.3

    def policy(self, name: str) -> Path:
        """The folder of ``last``, ``before`` or ``reference``: rounds 2 and 1, and the supervised policy."""
        stage = {"last": "round-2/train", "before": "round-1/train", "reference": "sft"}[name]
        return self.folder / "run" / stage / "policy"

    def read(self, name: str) -> list[dict[str, Any]]:
        """The rows of ``pairs`` or ``prompts``."""
        return [json.loads(line) for line in (self.folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class Batches:
    """Rows of a forward pass, prompts of a ``generate``, and pairs of a training pass."""

    score: int
    sample: int
    train: int


@dataclass(frozen=True)
class Round:
    """A round of one side: whole seconds, seconds by stage, and what came out of it."""

    seconds: float
    stages: dict[str, float]
    figures: dict[str, Any]


@contextmanager
def timed(stages: dict[str, float], name: str) -> Iterator[None]:
    """Note the seconds of the block."""
    began = time.perf_counter()
    yield
    stages[name] = round(time.perf_counter() - began, 3)

"""What both sides of ``round`` are given and give back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.jobs import BETA, MAX_GRAD_NORM, OPTIMIZER, STEP_PAIRS

# The first round that has all there is: a policy, one before it, and the reference.
ROUND = 3
# Steps of a training whose losses are compared.
CHECKED_STEPS = 3


@dataclass(frozen=True)
class RoundJob:
    """What both sides are given: the settings of a round, and a folder.

    In ``folder``: ``model``, the reference, with its tokenizer; ``rows.jsonl`` and ``asked.jsonl``, pairs and prompts
    as text; and, once the base run has ended, that ``run``, from whose policies both sides go on, ``pairs.jsonl`` and
    ``prompts.jsonl``. A row of pairs has ``pair_id``, token ids, and what a script keeps of the round before, as
    seralign does: ``margin_before``, and ``reference``, the chosen response's log-probability under the reference minus
    the rejected one's. ``precision`` is that of
    training. The learning rate is a fifth of that of the other benchmarks, by which responses would soon not
    end any more.
    """

    folder: Path
    pairs: int
    prompts: int
    precision: str
    samples: int = 4
    max_new_tokens: int = 128
    step_pairs: int = STEP_PAIRS
    beta: float = BETA
    gamma: float = 0.3
    learning_rate: float = 2e-5
    max_grad_norm: float = MAX_GRAD_NORM
    optimizer: str = OPTIMIZER
    keep: float = 0.7
    keep_generated: float = 0.6
    share: float = 0.3

    @property
    def steps(self) -> int:
        """Optimizer steps of a training: one epoch of as many pairs as there are offline ones."""
        return self.pairs // self.step_pairs

    def policy(self, name: str) -> Path:
        """The folder of ``last``, ``before`` or ``reference``: rounds 2 and 1, and the model that they began with."""
        places = {"last": "run/round-2/train/policy", "before": "run/round-1/train/policy", "reference": "model"}
        return self.folder / places[name]

    def read(self, name: str) -> list[dict[str, Any]]:
        """The rows of ``pairs`` or ``prompts``."""
        return [json.loads(line) for line in (self.folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class Batches:
    """Rows of a forward pass; prompts of a ``generate``, and its ``cache_implementation``; pairs of a training pass."""

    score: int
    sample: int
    cache: str | None
    train: int


@dataclass(frozen=True)
class Round:
    """A round of one side: whole seconds, seconds by stage, and what came out of it.

    ``computed`` serves the checks alone.
    """

    seconds: float
    stages: dict[str, float]
    figures: dict[str, Any]
    computed: dict[str, Any]


@contextmanager
def timed(stages: dict[str, float], name: str) -> Iterator[None]:
    """Note the seconds of the block."""
    began = time.perf_counter()
    yield
    stages[name] = round(time.perf_counter() - began, 3)

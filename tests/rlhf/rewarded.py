"""Rewards for tests of reinforcement learning, and a run with prompts only."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from forked import ends_by_itself

from seralign.config import RunConfig, load_config
from seralign.pipeline import train
from seralign.rlhf.reward import RewardFunction

# What ``count`` was given, call by call.
CALLS: list[tuple[list[str], list[str]]] = []
WORD = "w1"


def count(prompts: list[str], responses: list[str]) -> list[float]:
    """How often ``WORD`` is in each response."""
    CALLS.append((list(prompts), list(responses)))
    return [float(response.split().count(WORD)) for response in responses]


def length(prompts: list[str], responses: list[str]) -> list[float]:
    """Words of each response."""
    return [float(len(response.split())) for response in responses]


def constant(prompts: list[str], responses: list[str]) -> list[float]:
    """Always 1."""
    return [1.0] * len(responses)


def not_a_number(prompts: list[str], responses: list[str]) -> list[float]:
    """Never a number."""
    return [float("nan")] * len(responses)


def rlhf_config(world: Path, out: Path, method: str = "grpo", **more: Any) -> RunConfig:
    """A run of seconds on the prompts of a world, with dotted overrides (``rlhf__beta`` for ``rlhf.beta``)."""
    given = {
        "out": str(out),
        "rounds": 1,
        "policy.model": str(world / "model"),
        "data": {"prompts": {"path": str(world / "prompts.jsonl")}, "max_length": 48, "heldout_fraction": 0.2},
        "rlhf": {"method": method, "reward": "rewarded:count", "max_new_tokens": 8},
        "training": {"learning_rate": 1e-2, "max_steps": 4, "batch_size": 4, "save_steps": 2, "log_steps": 1,
                     "precision": "float32", "warmup": 0.0},
        "scoring": {"dtype": "float32"},
        "evaluation": {"prompts": 3, "max_new_tokens": 8, "scorer": "rewarded:count"},
    }  # fmt: skip
    overrides = {key.replace("__", "."): value for key, value in more.items()}
    return load_config(None, given | overrides)


def is_finished(world: Path, out: Path, method: str, dies: int | None) -> bool:
    """Run a training on the reward in a process of its own, killed at step ``dies``; whether it ended by itself."""

    def run() -> None:
        check = RewardFunction.check

        def dying(self: RewardFunction, step: int, steps: int) -> None:
            if step == dies:
                os.kill(os.getpid(), signal.SIGKILL)
            check(self, step, steps)

        RewardFunction.check = dying
        train(rlhf_config(world, out, method, evaluation__prompts=0))

    return ends_by_itself(run)

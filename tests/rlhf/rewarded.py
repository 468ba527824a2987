"""Rewards for tests of reinforcement learning, and a run with prompts only."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import ends_by_itself

import seralign.policy.load as loading
import seralign.rlhf.train as training
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


def assert_the_reference_is_cast_once(world: Path, folder: Path, method: str, patch: pytest.MonkeyPatch) -> None:
    """Train in bfloat16 over float32 weights with a cast reference, and with one that autocast casts in each pass.

    Both have the same metrics to the last bit: the same float32 weights are rounded to the same bfloat16 ones.
    """
    references: list[Any] = []
    given = training.make_trainer

    def noted(*args: Any) -> Any:
        trainer = given(*args)
        references.append(trainer.ref_model)
        return trainer

    patch.setattr(training, "make_trainer", noted)
    few = {"training__max_steps": 2, "rlhf__max_new_tokens": 4, "evaluation__prompts": 0}
    runs = []
    for name in ("cast", "plain"):
        if name == "plain":
            patch.setattr(loading, "cast_linear_layers", lambda *_: False)
        config = rlhf_config(world, folder / name, method, training__precision="bfloat16", **few)
        runs.append(train(config).run.path("round-1/train", "metrics.jsonl").read_text(encoding="utf-8"))
    cast, plain = references
    linear = {name for name, _ in plain.named_parameters() if "_proj" in name or "lm_head" in name}
    assert linear
    assert {name for name, weight in cast.named_parameters() if weight.dtype == torch.bfloat16} == linear
    assert {weight.dtype for weight in plain.parameters()} == {torch.float32}
    assert not any(weight.requires_grad for weight in cast.parameters())
    lines, wanted = ([json.loads(line) for line in run.splitlines()] for run in runs)
    assert len(lines) == 2
    assert abs(lines[1]["rlhf/kl"]) > 0
    assert lines == wanted

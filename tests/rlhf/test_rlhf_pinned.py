"""PPO, XPO and Nash-MD, which TRL 1.12 has: whole runs in an environment with it (``make test-rlhf``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rewarded import assert_the_reference_is_cast_once, is_finished, rlhf_config
from transformers import AutoModelForCausalLM, AutoTokenizer

from seralign.errors import ConfigError
from seralign.pipeline import train
from seralign.rlhf.reward import RewardFunction
from seralign.rlhf.versions import installed_trl
from seralign.runs import read_run

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(installed_trl() != "1.12.0", reason="needs TRL 1.12.0: make test-rlhf"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
]


def lines(run: Path) -> list[dict[str, float]]:
    text = (run / "round-1/train/metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(("method", "least"), [("ppo", 2.0), ("xpo", 0.5), ("nash_md", 0.5)])
def test_the_reward_rises_and_is_of_our_texts(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, least: float
) -> None:
    seen: list[tuple[list[str], list[list[int]]]] = []
    given = RewardFunction.__call__

    def recorded(self: Any, prompts: Any, completion_ids: Any, **others: Any) -> list[float]:
        seen.append((list(prompts), [list(ids) for ids in completion_ids]))
        return given(self, prompts, completion_ids, **others)

    monkeypatch.setattr(RewardFunction, "__call__", recorded)
    more = {"training__max_steps": 24, "training__batch_size": 8, "training__save_steps": 100, "rlhf__beta": 0.02}
    done = train(rlhf_config(world, tmp_path / "run", method, **more))
    found = lines(tmp_path / "run")
    assert len(found) == 24
    rewards = [line["rlhf/reward"] for line in found]
    assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + least
    known = {json.loads(line)["prompt"] for line in (world / "prompts.jsonl").read_text().splitlines()}
    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    for texts, ids in seen:
        assert len(texts) == len(ids)
        assert {text.removeprefix(tokenizer.bos_token) for text in texts} <= known
        assert all(len(one) <= 8 for one in ids)
    model = AutoModelForCausalLM.from_pretrained(done.policy)
    first = AutoModelForCausalLM.from_pretrained(world / "model")
    assert not torch.equal(model.lm_head.weight, first.lm_head.weight)


@pytest.mark.parametrize("method", ["ppo", "xpo", "nash_md"])
def test_a_killed_training_ends_as_an_uninterrupted_one(world: Path, tmp_path: Path, method: str) -> None:
    assert is_finished(world, tmp_path / "whole", method, None)
    assert not is_finished(world, tmp_path / "killed", method, 3)
    # PPO has no checkpoints, and begins again.
    found = list((tmp_path / "killed").glob("round-1/train.partial/scratch/checkpoint-2"))
    assert bool(found) == (method != "ppo")
    assert is_finished(world, tmp_path / "killed", method, None)
    one, other = (read_run(tmp_path / out).record("round-1/train").outputs for out in ("whole", "killed"))
    assert one["policy/model.safetensors"] == other["policy/model.safetensors"]


@pytest.mark.parametrize("method", ["xpo", "nash_md"])
def test_the_reference_is_cast_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    assert_the_reference_is_cast_once(world, tmp_path, method, monkeypatch)


def test_ppo_refuses_a_padding_token_that_ends_responses(world: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ConfigError, match="ppo needs a padding token that ends no response, and '<eos>' does"):
        train(rlhf_config(world, tmp_path / "run", "ppo", policy__tokenizer=str(tmp_path / "tokenizer")))


def test_stable_methods_need_a_later_release(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"grpo needs trl>=1.16,<2, and TRL 1.12.0 is installed"):
        train(rlhf_config(world, tmp_path / "run"))

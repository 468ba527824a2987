"""Whole runs that maximise a reward: what the reward function is given, what is learned, and what is saved."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rewarded
import torch
from rewarded import WORD, is_finished, rlhf_config
from transformers import AutoModelForCausalLM, AutoTokenizer

from seralign.data.table import read_table as read_examples
from seralign.errors import ConfigError
from seralign.pipeline import RunResult, train
from seralign.rlhf.reward import RewardFunction
from seralign.runs import read_run
from seralign.runs.figures import EvaluateFigures, TrainFigures
from seralign.termination import Terminated, terminable

STEPS = 12


@pytest.fixture(scope="module")
def seen() -> list[tuple[list[str], list[list[int]]]]:
    """Prompts and token ids that TRL gave the reward function, call by call."""
    return []


@pytest.fixture(scope="module")
def whole(world: Path, seen: list[tuple[list[str], list[list[int]]]]) -> RunResult:
    rewarded.CALLS.clear()
    given = RewardFunction.__call__

    def recorded(self: Any, prompts: Any, completion_ids: Any, **others: Any) -> list[float]:
        seen.append((list(prompts), [list(ids) for ids in completion_ids]))
        return given(self, prompts, completion_ids, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RewardFunction, "__call__", recorded)
        more = {"rlhf__samples": 4, "rlhf__track": ["rewarded:length"], "training__max_steps": STEPS}
        return train(rlhf_config(world, world.parent / "whole", **more))


def lines(run: RunResult) -> list[dict[str, float]]:
    text = run.run.path("round-1/train", "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_the_reward_rises(whole: RunResult) -> None:
    found = [line["rlhf/reward"] for line in lines(whole)]
    assert len(found) == STEPS
    # A random policy writes the word once in 28 tokens.
    assert np.mean(found[:2]) < 1.0
    assert np.mean(found[-2:]) > 3.0
    before, after = (whole.run.figures(f"{name}/evaluate", EvaluateFigures) for name in ("initial", "round-1"))
    assert before.score is not None
    assert after.score is not None
    assert after.score.mean > before.score.mean + 2.0


def test_the_reward_function_is_given_the_prompts_and_the_decoded_responses(
    whole: RunResult, world: Path, seen: list[tuple[list[str], list[list[int]]]]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    prompts = read_examples(whole.run.path("data", "prompts.arrow"))
    known = dict(zip(prompts["text"], prompts["ids"], strict=True))
    assert len(known) == 16  # a fifth of 20 is held out
    # Those of the evaluation are on other prompts.
    trained = [call for call in rewarded.CALLS if call[0][0] in known]
    assert len(seen) == STEPS
    asked = [pair for call in trained for pair in zip(*call, strict=True)]
    for texts, ids in seen:
        assert len(ids) == 16
        assert {texts.count(text) for text in texts} == {4}
        cut = [one[: one.index(3) + 1] if 3 in one else one for one in ids]
        assert all(len(one) <= 8 for one in cut)
        decoded = [tokenizer.decode(one, skip_special_tokens=True) for one in cut]
        assert set(zip(texts, decoded, strict=True)) <= set(asked)


def test_metrics_are_means_over_the_responses(whole: RunResult, seen: list[tuple[list[str], list[list[int]]]]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(whole.policy)
    for line, (_, ids) in zip(lines(whole), seen, strict=True):
        cut = [one[: one.index(3) + 1] if 3 in one else one for one in ids]
        words = [tokenizer.decode(one, skip_special_tokens=True).split() for one in cut]
        counts = np.array([each.count(WORD) for each in words])
        assert line["rlhf/reward"] == pytest.approx(counts.mean())
        assert line["rlhf/track/rewarded:length"] == pytest.approx(np.mean([len(each) for each in words]))
        assert line["rlhf/length"] == pytest.approx(np.mean([len(one) for one in cut]))
        assert line["rlhf/unfinished"] == pytest.approx(np.mean([3 not in one for one in ids]))
        assert line["rlhf/reward_spread"] == pytest.approx(counts.reshape(4, 4).std(axis=1).mean())
        assert line["rlhf/kl"] == pytest.approx(line["kl"] * line["rlhf/length"])
        # TRL agrees where it measures the same.
        assert line["reward"] == pytest.approx(counts.mean(), abs=1e-6)


def test_the_first_policy_is_the_reference(whole: RunResult) -> None:
    assert lines(whole)[0]["rlhf/kl"] == pytest.approx(0.0, abs=1e-6)
    assert lines(whole)[-1]["rlhf/kl"] > 0.1


def test_the_result_opens_and_is_as_the_model_was_but_for_its_weights(whole: RunResult, world: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(whole.policy)
    first = AutoModelForCausalLM.from_pretrained(world / "model")
    assert not torch.equal(model.lm_head.weight, first.lm_head.weight)
    for name in ("config.json", "generation_config.json"):
        before, after = (json.loads((folder / name).read_text()) for folder in (world / "model", whole.policy))
        assert before == after
    figures = whole.run.figures("round-1/train", TrainFigures)
    assert (figures.steps, figures.pairs) == (STEPS, 16)
    assert figures.train["rlhf/reward"] == lines(whole)[-1]["rlhf/reward"]


SLOW = [pytest.param(method, marks=pytest.mark.real) for method in ("rloo", "online_dpo")]


@pytest.mark.parametrize("method", ["grpo", *SLOW])
def test_a_killed_training_ends_as_an_uninterrupted_one(world: Path, tmp_path: Path, method: str) -> None:
    assert is_finished(world, tmp_path / "whole", method, None)
    assert not is_finished(world, tmp_path / "killed", method, 3)
    assert list((tmp_path / "killed").glob("round-1/train.partial/scratch/checkpoint-2"))
    assert is_finished(world, tmp_path / "killed", method, None)
    one, other = (read_run(tmp_path / out).record("round-1/train").outputs for out in ("whole", "killed"))
    for name in ("policy/model.safetensors", "metrics.jsonl"):
        if name == "metrics.jsonl":
            texts = [(tmp_path / out / "round-1/train" / name).read_text().splitlines() for out in ("whole", "killed")]
            for first, second in zip(*texts, strict=True):
                timed = {"step_time"}
                assert {key: value for key, value in json.loads(first).items() if key not in timed} == {
                    key: value for key, value in json.loads(second).items() if key not in timed
                }
        else:
            assert one[name] == other[name]


def test_a_training_that_is_terminated_ends_with_a_checkpoint(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = RewardFunction.check

    def terminated(self: RewardFunction, step: int, steps: int) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        check(self, step, steps)

    monkeypatch.setattr(RewardFunction, "check", terminated)
    more = {"training__save_steps": 100, "rlhf__samples": 2, "rlhf__max_new_tokens": 2, "evaluation__prompts": 0}
    with pytest.raises(Terminated), terminable():
        train(rlhf_config(world, tmp_path / "run", "rloo", **more))
    (found,) = (tmp_path / "run" / "round-1" / "train.partial" / "scratch").glob("checkpoint-*")
    assert found.name in ("checkpoint-1", "checkpoint-2")


@pytest.mark.parametrize(
    ("policy", "weights"),
    [({}, "model"), pytest.param({"policy__lora": {"r": 2, "alpha": 4}}, "adapter_model", marks=pytest.mark.real)],
)
def test_a_training_that_was_terminated_in_its_last_step_takes_no_other_one(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: dict[str, Any], weights: str
) -> None:
    more = {"training__save_steps": 100, "rlhf__samples": 2, "rlhf__max_new_tokens": 2, "evaluation__prompts": 0}
    more |= {"training__max_steps": 2, "training__schedule": "constant"} | policy
    train(rlhf_config(world, tmp_path / "whole", "rloo", **more))
    check = RewardFunction.check

    def terminated(self: RewardFunction, step: int, steps: int) -> None:
        if step == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        check(self, step, steps)

    with monkeypatch.context() as patch:
        patch.setattr(RewardFunction, "check", terminated)
        with pytest.raises(Terminated), terminable():
            train(rlhf_config(world, tmp_path / "ended", "rloo", **more))
    assert list((tmp_path / "ended").glob("round-1/train.partial/scratch/checkpoint-2"))
    train(rlhf_config(world, tmp_path / "ended", "rloo", **more))
    one, other = (read_run(tmp_path / out).record("round-1/train").outputs for out in ("whole", "ended"))
    assert one[f"policy/{weights}.safetensors"] == other[f"policy/{weights}.safetensors"]
    metrics = (tmp_path / "ended/round-1/train/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [1, 2]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("rewarded:not_a_number", "rlhf.reward: rewarded:not_a_number returned nan for response 0"),
        ("rewarded:constant", "rlhf.reward: rewarded:constant gave all responses to a prompt the same reward, in each"),
    ],
)
def test_a_reward_that_says_nothing_is_an_error(world: Path, tmp_path: Path, reward: str, message: str) -> None:
    more = {"rlhf__reward": reward, "training__max_steps": 10, "training__save_steps": 4, "evaluation__prompts": 0}
    with pytest.raises(ConfigError, match=message):
        train(rlhf_config(world, tmp_path / "run", "rloo", rlhf__samples=2, rlhf__max_new_tokens=2, **more))

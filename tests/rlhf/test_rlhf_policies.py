"""Runs that maximise a reward with adapters, other references, reward models and judges, and their plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from rewarded import assert_the_reference_is_cast_once, rlhf_config
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from seralign.errors import ConfigError
from seralign.pipeline import RunResult, train
from seralign.pipeline.plan import plan_run
from seralign.policy.quiet import quiet_transformers
from seralign.report.contents import run_contents
from seralign.report.page import write_report
from seralign.runs.figures import EvaluateFigures

FEW = {"training__max_steps": 2, "rlhf__samples": 2, "rlhf__max_new_tokens": 4, "evaluation__prompts": 0}


@pytest.fixture(scope="module")
def adapter(world: Path) -> RunResult:
    return train(rlhf_config(world, world.parent / "adapter", policy__lora={"r": 2, "alpha": 4}, **FEW))


def lines(run: RunResult) -> list[dict[str, float]]:
    text = run.run.path("round-1/train", "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_new_adapter_alone_is_trained_and_saved(adapter: RunResult, world: Path) -> None:
    names = {file.name for file in adapter.policy.iterdir()}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names
    assert "ref" not in names  # TRL's copy of the start
    base = AutoModelForCausalLM.from_pretrained(world / "model")
    ids = torch.tensor([[4, 5, 6, 2]])
    before = base(ids).logits
    with quiet_transformers():
        after = PeftModel.from_pretrained(base, adapter.policy)(ids).logits
    assert not torch.allclose(before, after)
    assert lines(adapter)[0]["rlhf/kl"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("method", [pytest.param("grpo", marks=pytest.mark.real), "online_dpo"])
def test_a_trained_adapter_is_its_own_reference(adapter: RunResult, world: Path, tmp_path: Path, method: str) -> None:
    more = FEW | ({"rlhf__samples": None} if method == "online_dpo" else {})
    done = train(rlhf_config(world, tmp_path / "run", method, policy__adapter=str(adapter.policy), **more))
    # The model without adapter would be at a distance from the start.
    assert lines(done)[0]["rlhf/kl"] == pytest.approx(0.0, abs=1e-6)
    first, last = (load_file(folder / "adapter_model.safetensors") for folder in (adapter.policy, done.policy))
    assert first.keys() == last.keys()
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert not (done.policy / "ref").exists()


@pytest.mark.parametrize("method", ["rloo", pytest.param("online_dpo", marks=pytest.mark.real)])
def test_the_reference_can_be_another_model(world: Path, tmp_path: Path, method: str) -> None:
    other = AutoModelForCausalLM.from_pretrained(world / "model")
    with torch.no_grad():
        other.lm_head.weight.mul_(-1.0)
    other.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(world / "model").save_pretrained(tmp_path / "other")
    more = FEW | ({"rlhf__samples": None} if method == "online_dpo" else {})
    done = train(rlhf_config(world, tmp_path / "run", method, reference__model=str(tmp_path / "other"), **more))
    assert abs(lines(done)[0]["rlhf/kl"]) > 0.05


def test_the_reference_of_online_dpo_is_cast_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_the_reference_is_cast_once(world, tmp_path, "online_dpo", monkeypatch)


def test_an_adapter_has_no_other_reference(world: Path, tmp_path: Path) -> None:
    # A copy with other weights, or it would be the same policy.
    other = AutoModelForCausalLM.from_pretrained(world / "model")
    with torch.no_grad():
        other.lm_head.weight.mul_(2.0)
    other.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(world / "model").save_pretrained(tmp_path / "other")
    more = FEW | {"policy__lora": {"r": 2}, "reference__model": str(tmp_path / "other")}
    with pytest.raises(ConfigError, match=r"reference.model: grpo of TRL trains an adapter against the policy at its"):
        train(rlhf_config(world, tmp_path / "run", **more))


def test_a_judge_rewards_what_it_prefers(world: Path, tmp_path: Path) -> None:
    more = FEW | {"rlhf__reward": "judge", "evaluation__judge": "scorer", "rlhf__track": ["rewarded:count"]}
    done = train(rlhf_config(world, tmp_path / "run", **more))
    for line in lines(done):
        # Win probabilities within a prompt have the mean one half.
        assert line["rlhf/reward"] == pytest.approx(0.5)
        assert 0.0 <= line["rlhf/track/rewarded:count"] <= 4.0


def test_plan_and_report_of_a_run_with_prompts_alone(adapter: RunResult, world: Path, tmp_path: Path) -> None:
    config = rlhf_config(world, tmp_path / "run", rlhf__samples=4, rlhf__prompts_per_pass=2)
    plan = plan_run(config)
    stages = {stage.name: stage for stage in plan.stages}
    # 4 steps of 4 prompts with 4 responses of at most 8 tokens; prompts have at most 6 tokens.
    stage = stages["round-1/train"]
    assert (stage.count, stage.unit, stage.note) == (4, "steps", "64 responses")
    # Through the policy in steps and through the reference, and sampled once.
    assert 64 * 8 * 3 <= stage.tokens <= 64 * (8 + 6) * 3
    assert stage.peak_bytes is not None
    assert stage.peak_bytes > (stages["round-1/evaluate"].peak_bytes or 0)
    contents = run_contents(adapter.run)
    assert contents.figures.objective == "grpo"
    write_report([contents], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "GRPO on the reward rewarded:count, 2 steps" in page
    assert "Reward of sampled responses" in page


def test_a_plan_counts_prompts_with_the_same_text_once(world: Path, tmp_path: Path) -> None:
    """As token ids without the token at the start, which the texts get, they are other prompts of the same text."""
    texts = [json.loads(line)["prompt"] for line in (world / "prompts.jsonl").read_text().splitlines()[:8]]
    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    rows: list[dict[str, Any]] = [{"prompt": text} for text in texts]
    rows += [{"prompt_ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in texts]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"prompts": {"path": str(tmp_path / "prompts.jsonl")}, "max_length": 48, "heldout_fraction": 0.0}
    keys = {"training__max_steps": None, "evaluation__prompts": 0, "rlhf__samples": 2} | {"data": data}
    plan = plan_run(rlhf_config(world, tmp_path / "run", **keys))
    (stage,) = (stage for stage in plan.stages if stage.name == "round-1/train")
    assert (stage.count, stage.note) == (2, "16 responses")


@pytest.mark.real  # the example of tests/test_examples.py does it, too
def test_a_model_that_was_trained_on_pairs_is_the_reward(world: Path, tmp_path: Path) -> None:
    """Reward model, then RLOO on its rewards, whose mean in the metrics is that of the model on the same texts."""
    model = str(world / "model")
    reward: dict[str, Any] = {
        "policy__model": model, "data": {"pairs": {"path": str(world / "pairs.jsonl")}, "max_length": 48,
        "heldout_fraction": 0.0}, "objective__name": "reward", "rlhf": None,
        "evaluation": {"prompts": 0, "token_pairs": 0}, "training__max_steps": 2,
    }  # fmt: skip
    trained = train(rlhf_config(world, tmp_path / "reward", **reward))
    more = {
        "rlhf__reward": f"reward_model:{tmp_path / 'reward'}",
        "evaluation__scorer": f"reward_model:{trained.policy}",
    }
    done = train(rlhf_config(world, tmp_path / "run", "rloo", rlhf__samples=2, training__max_steps=2, **more))
    assert np.isfinite([line["rlhf/reward"] for line in lines(done)]).all()
    assert done.run.figures("round-1/evaluate", EvaluateFigures).score is not None

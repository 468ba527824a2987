"""Whole runs that train a reward model, and what such a run refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from small_run import small_config
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from seralign.cli.main import main
from seralign.config import RunConfig, WorldConfig
from seralign.data.table import read_table as read_examples
from seralign.errors import ConfigError, ModelError
from seralign.laboratory.world import make_world
from seralign.pipeline import RunResult, train
from seralign.pipeline.plan import plan_run
from seralign.policy.quiet import quiet_transformers
from seralign.report.contents import run_contents
from seralign.report.page import write_report
from seralign.runs.figures import EvaluateFigures
from seralign.runs.files import read_table

REWARD = {
    "rounds": 1, "sft": None, "world": None, "bootstrap": {}, "evaluation": {"prompts": 0, "token_pairs": 0},
    "evaluation__baseline": False, "data__heldout_fraction": 0.25, "objective__name": "reward",
    "training__max_steps": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world's model, whose tokenizer pads with its end token, and pairs of two sources; rankings and scores."""
    folder = tmp_path_factory.mktemp("reward")
    make_world(WorldConfig(pairs=40, demonstrations=8, prompts=8, heldout=8), folder / "world")
    model = folder / "world" / "model"
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(model)
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    settings["pad_token_id"] = tokenizer.eos_token_id
    (model / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    rows = [json.loads(line) for line in (folder / "world" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        row["source"] = ("first", "second")[number % 2]
    rankings, scored = [], []
    for row in rows:
        answers = [{"answer": row["chosen"], "rank": 1}, {"answer": row["rejected"], "rank": 2}]
        rankings.append({"prompt": row["prompt"], "answers": answers})
        answers = [{"answer": row["chosen"], "score": 2.0}, {"answer": row["rejected"], "score": 1.0}]
        scored.append({"prompt": row["prompt"], "answers": answers})
    for name, made in (("pairs", rows), ("rankings", rankings), ("scored", scored)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    return folder


def config(folder: Path, out: str, rows: str = "pairs", **more: Any) -> RunConfig:
    given = REWARD | {
        "policy__model": str(folder / "world" / "model"), "data__pairs": {"path": str(folder / f"{rows}.jsonl")},
    }  # fmt: skip
    return small_config(folder / out, **given | more)


@pytest.fixture(scope="module")
def whole(folder: Path) -> RunResult:
    return train(config(folder, "whole", data__keep_columns=["source"]))


@pytest.fixture(scope="module")
def adapter(folder: Path) -> RunResult:
    return train(config(folder, "adapter", policy__lora={"r": 4, "alpha": 8}))


@pytest.fixture(scope="module")
def merged(adapter: RunResult, folder: Path) -> RunResult:
    """The adapter's run, with the whole model that ``seralign merge`` makes of it."""
    assert main(["merge", str(adapter.run.root), "--out", str(folder / "merged")]) == 0
    return replace(adapter, policy=folder / "merged")


def opened(policy: Path, base: Path) -> Any:
    """The result as transformers and PEFT open it, with the padding token of its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    with quiet_transformers():
        if not (policy / "adapter_config.json").is_file():
            return AutoModelForSequenceClassification.from_pretrained(policy).eval(), tokenizer
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
        model.config.pad_token_id = tokenizer.pad_token_id
        return PeftModel.from_pretrained(model, policy).eval(), tokenizer


@pytest.mark.parametrize("kind", ["whole", "adapter", "merged"])
def test_transformers_gives_the_rewards_of_the_run(kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """A batch of one, padded: the end token is scored, though the tokenizer of the base pads with it."""
    done: RunResult = request.getfixturevalue(kind)
    model, tokenizer = opened(done.policy, folder / "world" / "model")
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    heldout = read_examples(done.run.path("data", "heldout.arrow"))
    stored = read_table(done.run.path("round-1/evaluate", "heldout_rewards.parquet"))["rewards"].to_pylist()
    found = []
    for row in map(dict, heldout):
        own = []
        for response in row["response_ids"]:
            assert response[-1] == tokenizer.eos_token_id
            ids = [*row["prompt_ids"], *response]
            batch = torch.tensor([[*ids, *[tokenizer.pad_token_id] * 3]])
            with torch.no_grad():
                logits = model(input_ids=batch, attention_mask=(torch.arange(batch.shape[1]) < len(ids))[None].long())
            own.append(float(logits.logits[0, 0]))
        found.append(own)
    np.testing.assert_allclose(found, stored, rtol=1e-4, atol=1e-5)
    figures = done.run.figures("round-1/evaluate", EvaluateFigures)
    margins = np.array(found)[:, 0] - np.array(found)[:, 1]
    assert figures.heldout_accuracy is not None
    assert figures.heldout_accuracy.mean == pytest.approx((margins > 0).mean())
    assert figures.heldout_margin == pytest.approx(margins.mean(), abs=1e-5)
    assert figures.calibration is not None
    assert figures.calibration.brier.mean == pytest.approx(np.mean((1 - 1 / (1 + np.exp(-margins))) ** 2), abs=1e-5)


def test_accuracy_by_a_kept_column(whole: RunResult) -> None:
    figures = whole.run.figures("round-1/evaluate", EvaluateFigures)
    assert figures.heldout_accuracy is not None
    own = figures.by_column["source"]
    assert set(own) == {"first", "second"}
    mean = sum(rate.mean * rate.n for rate in own.values()) / sum(rate.n for rate in own.values())
    assert mean == pytest.approx(figures.heldout_accuracy.mean)


def test_the_training_lowers_the_loss(folder: Path) -> None:
    done = train(config(folder, "long", training__max_steps=40, training__learning_rate=3e-3))
    lines = [json.loads(line) for line in done.run.path("round-1/train", "metrics.jsonl").read_text().splitlines()]
    training = [line for line in lines if "loss" in line]
    assert training[-1]["loss"] < 0.5 < training[0]["loss"]
    assert training[-1]["rewards/accuracies"] > 0.8
    assert "rewards/chosen" in training[0]
    assert not any(key.startswith("logps/") for key in training[0])


def test_the_result_is_trained_further(folder: Path, whole: RunResult) -> None:
    """The score is not drawn anew: the first held-out loss is the last one of the run before."""
    again = train(config(folder, "further", policy__model=str(whole.policy)))
    before, after = (
        done.run.record("round-1/train").figures[name] for done, name in ((whole, "heldout"), (again, "heldout_first"))
    )
    assert after["eval_loss"] == pytest.approx(before["eval_loss"], rel=1e-6)


@pytest.mark.parametrize(("rows", "name"), [("rankings", "reward_ranking"), ("scored", "reward_scores")])
def test_rankings_and_scores(folder: Path, rows: str, name: str) -> None:
    done = train(config(folder, rows, rows, objective__name=name, training__max_steps=2))
    figures = done.run.figures("round-1/evaluate", EvaluateFigures)
    assert figures.heldout_accuracy is not None
    assert 0 <= figures.heldout_accuracy.mean <= 1
    assert figures.heldout_accuracy.n == 10


def test_a_card_a_report_and_a_plan(folder: Path, whole: RunResult, tmp_path: Path) -> None:
    card = (whole.policy / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-classification" in card
    assert "A reward model (AutoModelForSequenceClassification with one label)" in card
    assert "Reference" not in card
    write_report([run_contents(whole.run)], tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    shutil.rmtree(folder / "planned", ignore_errors=True)
    planned = plan_run(config(folder, "planned"))
    assert [stage.name for stage in planned.stages][-2:] == ["round-1/train", "round-1/evaluate"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"rounds": 2}, "rounds: reward trains a reward model, which is trained in one round; set rounds: 1"),
        ({"crossfit": {}}, "crossfit: it reviews labels by copies of a policy"),
        ({"evaluation": {"prompts": 4}}, "evaluation.prompts: a reward model (reward) answers no prompts"),
        ({"evaluation__token_pairs": 4}, "evaluation.token_pairs: a reward model (reward) answers no prompts"),
        (
            {"evaluation__scorer": "a:b"},
            "evaluation.scorer: reward trains a reward model, which has no reference",
        ),
        ({"evaluation__baseline": True}, "evaluation.baseline: reward trains a reward model"),
        ({"reference__model": "x"}, "reference.model: reward trains a reward model"),
        ({"reference__sync_steps": 2}, "reference.sync_steps: reward has no reference to move"),
        ({"sft": {}, "policy__lora": {}}, "sft: with policy.lora, the adapter of a language model"),
    ],
)
def test_what_cannot_be_honoured_is_an_error_with_its_key(folder: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(folder, "refused", **given)
    assert str(caught.value).startswith(says)


def test_a_model_that_cannot_be_one_is_refused_at_the_start(folder: Path, whole: RunResult, tmp_path: Path) -> None:
    """A policy cannot be trained from a reward model, and a family needs a class for sequence classification."""
    with pytest.raises(ModelError, match="LlamaForSequenceClassification is a classifier; a causal"):
        train(config(folder, "from_reward", objective__name="dpo", policy__model=str(whole.policy)))
    model = tmp_path / "model"
    shutil.copytree(folder / "world" / "model", model)
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(
        json.dumps(
            {"model_type": "cohere", "vocab_size": settings["vocab_size"], "architectures": ["CohereForCausalLM"]}
        )
    )
    with pytest.raises(ModelError, match="transformers has no class of Cohere for a reward model"):
        train(config(folder, "cohere", policy__model=str(model)))

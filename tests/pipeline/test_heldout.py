"""Held-out pairs go through a policy once, whoever asks first: the training or the evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
from small_run import small_config

import seralign.pipeline.context as context
import seralign.rewards.cached_logprobs as scoring
import seralign.training.train as training
from seralign.config import RunConfig, load_config
from seralign.data.table import read_table
from seralign.data.tokens import make_encoder
from seralign.evaluation.summary import summarise
from seralign.pipeline import train
from seralign.pipeline.data import read_data
from seralign.policy.heads import LANGUAGE_MODEL
from seralign.runs import Run
from seralign.runs.cache import response_key
from seralign.runs.data_figures import DataFigures
from seralign.runs.figures import EvaluateFigures

SHORT = {"evaluation__baseline": False, "evaluation__token_pairs": 0, "evaluation__prompts": 0, "sft": None,
         "rounds": 2, "training__max_steps": 2}  # fmt: skip


def forward_passes(config: RunConfig, patched: pytest.MonkeyPatch) -> tuple[Run, dict[str, int]]:
    """A run, and how many held-out responses went through a model in each of its stages."""
    found: dict[str, int] = {}
    stage, keys = "", set[bytes]()
    forward, values, say = scoring.forward, LANGUAGE_MODEL.values, context.say

    def watch_stage(text: str) -> None:
        nonlocal stage
        stage = text.strip("[]")
        say(text)

    def watch_scoring(model: Any, responses: Any, pack: np.ndarray, *rest: Any) -> np.ndarray:
        if not keys:
            table = read_table(Path(config.out) / "data" / "heldout.arrow")
            keys.update(response_key(row["prompt_ids"], ids) for row in table  # pyright: ignore
                        for ids in row["response_ids"])  # pyright: ignore # fmt: skip
        found[stage] = found.get(stage, 0) + sum(key in keys for key in responses.keys[pack].tolist())
        return forward(model, responses, pack, *rest)

    def watch_trainer(model: Any, **batch: Any) -> Any:
        if not model.training:
            found[f"{stage}, trainer"] = found.get(f"{stage}, trainer", 0) + len(batch["lengths"])
        return values(model, **batch)

    patched.setattr(context, "say", watch_stage)
    patched.setattr(scoring, "forward", watch_scoring)
    patched.setattr(training, "HEADS", {"language_model": replace(LANGUAGE_MODEL, values=watch_trainer)})
    run = train(config).run
    return run, {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("start", ["previous", "initial"])
def test_each_policy_sees_the_heldout_pairs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    """The reference in its evaluation, each trained policy after its last step."""
    run, passes = forward_passes(small_config(tmp_path / "run", **SHORT, policy__start=start), monkeypatch)
    count = 2 * run.record("data").figures["heldout"]
    assert count
    assert passes == {"initial/evaluate": count, "round-1/train, trainer": count, "round-2/train, trainer": count}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"training__precision": "bfloat16", "scoring__dtype": "bfloat16"},
        {"policy__lora": {"r": 2}},
        {"training__average": 0.5},
        {"training__eval_steps": 1},
    ],
    ids=["float32", "bfloat16", "lora", "average", "eval_steps"],
)
def test_what_training_measured_is_what_scoring_finds_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """The same evaluations, once from what training left in the cache and once computed anew."""
    config = small_config(tmp_path / "run", **SHORT | {"rounds": 1}, **settings)
    kept = train(config).run
    monkeypatch.setattr("seralign.pipeline.training.keep_heldout", lambda *_: None)
    monkeypatch.setattr("seralign.pipeline.training.known_heldout", lambda *_: None)
    anew, passes = forward_passes(small_config(tmp_path / "anew", **SHORT | {"rounds": 1}, **settings), monkeypatch)
    assert passes["round-1/evaluate"] == 2 * anew.record("data").figures["heldout"]
    for stage in ("round-1/train", "round-1/evaluate"):
        assert kept.record(stage).figures == anew.record(stage).figures
    lines = [(run.path("round-1/train") / "metrics.jsonl").read_text("utf-8") for run in (kept, anew)]
    assert [line for line in lines[0].splitlines() if "eval_" in line] == [
        line for line in lines[1].splitlines() if "eval_" in line
    ]
    # What training measures is what the evaluation says.
    measured, said = kept.record("round-1/train").figures["heldout"], kept.record("round-1/evaluate").figures
    assert measured["eval_margins"] == pytest.approx(said["heldout_margin"], rel=1e-12)
    assert measured["eval_rewards/accuracies"] == pytest.approx(said["heldout_accuracy"]["mean"], rel=1e-12)


def test_calibration_is_of_beta_times_the_margin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The margins and labels that the evaluation has, with beta: the same Brier score from the formula."""
    given: list[dict[str, Any]] = []

    def spy(*arguments: Any, **named: Any) -> Any:
        given.append(named)
        return summarise(*arguments, **named)

    monkeypatch.setattr("seralign.pipeline.evaluating.summarise", spy)
    run = train(small_config(tmp_path / "run", **SHORT | {"rounds": 1}, objective__beta=0.7)).run
    figures = run.figures("round-1/evaluate", EvaluateFigures)
    odds = 0.7 * np.asarray(given[-1]["margins"])
    assert figures.calibration is not None
    assert figures.calibration.brier.mean == pytest.approx(
        np.mean((1 / (1 + np.exp(-odds)) - given[-1]["labels"]) ** 2)
    )
    assert sum(one.observed.n for one in figures.calibration.bins) == run.record("data").figures["heldout"]
    assert run.figures("initial/evaluate", EvaluateFigures).calibration is None  # the reference itself


def test_another_precision_of_scoring_computes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"training__precision": "bfloat16", "scoring__dtype": "float32", "rounds": 1}
    run, passes = forward_passes(small_config(tmp_path / "run", **SHORT | settings), monkeypatch)
    count = 2 * run.record("data").figures["heldout"]
    assert passes["round-1/evaluate"] == count
    measured, said = run.record("round-1/train").figures["heldout"], run.record("round-1/evaluate").figures
    assert measured["eval_margins"] != said["heldout_margin"]


def test_policies_answer_the_heldout_prompts_that_are_given(tmp_path: Path) -> None:
    prompts = [f"e1 e2 e{number} <sep>" for number in range(3, 8)]
    given = tmp_path / "asked.jsonl"
    given.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    settings = SHORT | {"rounds": 1, "evaluation__prompts": 4}
    config = small_config(tmp_path / "run", data__heldout_prompts={"path": str(given)}, **settings)
    run = train(config).run
    assert read_table(run.path("data", "heldout_prompts.arrow"))["text"][:] == prompts
    figures = run.figures("data", DataFigures)
    assert figures is not None
    assert figures.sources["heldout_prompts"].kept == 5
    assert figures.heldout_prompts_also_trained_on == 0
    for role in ("initial", "round-1"):
        asked = pq.read_table(run.path(f"{role}/evaluate", "samples.parquet"))["prompt"].to_pylist()
        assert len(set(asked)) == 4
        assert set(asked) <= set(prompts)


def test_heldout_prompts_that_are_trained_on_are_counted(tmp_path: Path) -> None:
    pairs = [{"prompt": f"w{number} ", "chosen": "w1", "rejected": "w2"} for number in range(4)]
    asked = [{"prompt": "w1 "}, {"prompt": "w3 "}, {"prompt": "w9 "}]
    for name, rows in (("pairs", pairs), ("asked", asked)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = {f"data.{key}.path": str(tmp_path / f"{name}.jsonl") for key, name in
             (("pairs", "pairs"), ("heldout_prompts", "asked"))}  # fmt: skip
    config = load_config(None, paths | {"out": "r", "policy.model": "m", "data.heldout_fraction": 0.0})
    figures = read_data(config, make_encoder(tiny.make_tokenizer(), config.data, frozenset({tiny.EOS})), tmp_path)
    assert (figures.pairs, figures.heldout) == (4, 0)
    assert figures.heldout_prompts_also_trained_on == 2

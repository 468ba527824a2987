"""Where the policy is the reference, every margin and reward is zero to the last bit, whatever else is set.

Through the stage that trains, as a run does it: reference log-probabilities scored in the trainer's packs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_helpers import random_pairs

from seralign.config import DataConfig, LoraConfig, PolicyConfig, RunConfig, SourceConfig, TrainingConfig
from seralign.laboratory.model import build_tokenizer
from seralign.objectives import OBJECTIVES, one
from seralign.pipeline.context import Loop, Policy, run_results
from seralign.pipeline.data import Tables
from seralign.pipeline.lineage import INITIAL, REFERENCE
from seralign.pipeline.rows import AllPairs
from seralign.pipeline.stage import Context, carry_out
from seralign.pipeline.training import Training
from seralign.policy.abilities import packed_length
from seralign.policy.identity import PolicySource, weights_digest
from seralign.runs import open_run
from seralign.runs.files import read_table

# PEFT still asks for the old name, and tells how it reads GPT-2's transposed weights.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]

# beta 0.1. At margin 0: dpo -log sigmoid(0) = ln 2; ipo (0 - 1 / 0.2)^2 = 25; slic 1 - 0 = 1.
AT_ZERO = {"dpo": math.log(2), "ipo": 25.0, "slic": 1.0}


def first_lines(
    model: Path, root: Path, objective_name: str, policy: dict[str, Any], pairs: int = 8, **training: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The held-out line before the first step, and the line of the first step, which sees all pairs."""
    config = RunConfig(
        policy=PolicyConfig(model=str(model), **policy),
        training=TrainingConfig(
            max_steps=2,
            batch_size=8,
            tokens_per_pack=150,
            log_steps=1,
            learning_rate=1e-3,
            **{"precision": "float32"} | training,
        ),
        data=DataConfig(pairs=SourceConfig("never-read.jsonl")),
        out=str(root),
    )
    objective = one(objective_name, OBJECTIVES[objective_name](0.1))
    start = Policy("start", PolicySource(str(model)), weights_digest(PolicySource(str(model))))
    longest = packed_length(start.source, config.policy)
    run = open_run(root, {}, {})
    tokenizer, results = build_tokenizer(), run_results(run)
    loop = Loop(config, run, tokenizer, frozenset({2}), objective, longest, None, results, results, None, None)
    heldout = random_pairs(pairs // 2 or 1, seed=1, soft=True)
    tables = Tables(random_pairs(pairs, soft=True), heldout, heldout, heldout, None, "pairs")
    context = Context(loop, tables, start, None)
    carry_out(loop.run, Training("train", INITIAL, AllPairs(), REFERENCE), context)
    lines = [json.loads(line) for line in (root / "train" / "metrics.jsonl").read_text().splitlines()]
    return lines[0], lines[1]


def assert_at_zero(heldout: dict[str, Any], first: dict[str, Any], loss: float) -> None:
    for line, prefix in ((heldout, "eval_"), (first, "")):
        assert line["step"] == (0 if prefix else 1)
        for name in ("margins", "rewards/chosen", "rewards/rejected", "rewards/margins"):
            assert line[prefix + name] == 0.0, (name, line)
        assert line[prefix + "rewards/accuracies"] == 0.5
        # The mean of equal numbers, itself rounded: one unit in the last place of a float64.
        assert line[prefix + "loss"] == pytest.approx(loss, rel=1e-15, abs=0)


@pytest.mark.parametrize(
    ("architecture", "precision", "lora"),
    [
        ("llama", "float32", False),
        ("llama", "bfloat16", True),
        ("qwen2", "bfloat16", False),
        ("qwen2", "float32", True),
        ("gpt2", "float32", False),
        ("gpt2", "bfloat16", True),
    ],
)
def test_dpo_begins_at_ln_2(
    tiny_model: Callable[[str], Path], tmp_path: Path, architecture: str, precision: str, lora: bool
):
    policy = {"lora": LoraConfig(r=4, alpha=8)} if lora else {}
    lines = first_lines(tiny_model(architecture), tmp_path / "run", "dpo", policy, precision=precision)

    assert_at_zero(*lines, math.log(2))


@pytest.mark.parametrize(("architecture", "lora"), [("llama", True), ("gpt2", False)])
def test_gradient_checkpointing_changes_nothing(
    tiny_model: Callable[[str], Path], tmp_path: Path, architecture: str, lora: bool
):
    policy = {"lora": LoraConfig(r=4, alpha=8)} if lora else {}
    model = tiny_model(architecture)
    lines = first_lines(model, tmp_path / "run", "dpo", policy, precision="bfloat16", gradient_checkpointing=True)
    plain = first_lines(model, tmp_path / "plain", "dpo", policy, precision="bfloat16")

    assert_at_zero(*lines, math.log(2))
    assert lines[1]["grad_norm"] == pytest.approx(plain[1]["grad_norm"], rel=1e-6)


@pytest.mark.parametrize(("objective", "dtype"), [("ipo", "bfloat16"), ("slic", "float32")])
def test_other_objectives_begin_at_their_own_value(
    tiny_model: Callable[[str], Path], tmp_path: Path, objective: str, dtype: str
):
    lines = first_lines(tiny_model("llama"), tmp_path / "run", objective, {"dtype": dtype})

    assert_at_zero(*lines, AT_ZERO[objective])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_first_loss_of_one_pair_is_ln_2_to_the_last_bit(
    tiny_model: Callable[[str], Path], tmp_path: Path, precision: str
):
    heldout, first = first_lines(tiny_model("llama"), tmp_path / "run", "dpo", {}, pairs=1, precision=precision)

    assert heldout["eval_loss"] == math.log(2)
    assert first["loss"] == math.log(2)
    assert first["grad_norm"] > 0


def test_pairs_that_training_never_comes_to_are_not_scored(tiny_model: Callable[[str], Path], tmp_path: Path):
    """Two steps of 8 of 40 pairs: 16 have a reference, the others null, and no figure knows of them."""
    _, first = first_lines(tiny_model("llama"), tmp_path / "run", "dpo", {}, pairs=40)

    table = read_table(tmp_path / "run" / "train" / "reference.parquet")
    assert len(table) == 40
    found = table["logps"].to_pylist()
    assert sum(logps == [None, None] for logps in found) == 24
    assert sum(None not in logps and all(map(math.isfinite, logps)) for logps in found) == 16
    assert first["margins"] == 0.0
    assert math.isfinite(first["loss"])

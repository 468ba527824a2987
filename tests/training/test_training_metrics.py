"""Metrics by name and value against plain model calls, and evaluation that leaves no trace."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from torch import nn
from training_helpers import (
    metrics,
    plain_logps,
    policy_model,
    random_pairs,
    reference_logps,
    run_training,
    training_data,
)
from transformers import AutoModelForCausalLM

from seralign.config import TrainingConfig
from seralign.errors import ConfigError
from seralign.laboratory.model import build_tokenizer
from seralign.objectives import DPO, SFT, SimPO, one
from seralign.training import train as training
from seralign.training.steps import RunningState
from seralign.training.train import TrainingData

PAIRS = random_pairs(10, seed=7, soft=True)
HELDOUT = random_pairs(7, seed=8, soft=True)
NAMES = {
    "loss", "margins", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
    "logps/chosen", "logps/rejected", "lengths/chosen", "lengths/rejected",
}  # fmt: skip


def by_hand(model: nn.Module, pairs: Dataset, reference: np.ndarray) -> dict[str, float]:
    """DPO's metrics with beta 0.1, pair by pair: the loss weighted, everything else a plain mean over pairs."""
    lines = []
    weights = []
    reference = reference.reshape(2, -1)
    for at, row in enumerate(map(dict, tiny.as_pairs(pairs))):
        chosen, rejected = (plain_logps(model, row, name).item() for name in ("chosen_ids", "rejected_ids"))
        h = (chosen - reference[0, at]) - (rejected - reference[1, at])
        weights.append(row["weight"])
        lines.append(
            {
                "loss": row["weight"] * math.log1p(math.exp(-0.1 * (2 * row["p"] - 1) * h)),
                "margins": h,
                "rewards/chosen": 0.1 * (chosen - reference[0, at]),
                "rewards/rejected": 0.1 * (rejected - reference[1, at]),
                "rewards/margins": 0.1 * h,
                "rewards/accuracies": float(h > 0),
                "logps/chosen": chosen,
                "logps/rejected": rejected,
                "lengths/chosen": len(row["chosen_ids"]),
                "lengths/rejected": len(row["rejected_ids"]),
            }
        )
    means = {name: sum(line[name] for line in lines) / len(lines) for name in NAMES}
    return means | {"loss": sum(line["loss"] for line in lines) / sum(weights)}


def some_reference(pairs: Dataset) -> np.ndarray:
    return np.random.default_rng(3).normal(-25, 10, size=2 * len(pairs))


@pytest.mark.parametrize("tokens_per_pack", [10_000, 100, 1])
def test_a_line_of_training_is_the_mean_over_its_pairs_by_hand(
    tiny_model: Callable[[str], Path], tmp_path: Path, tokens_per_pack: int
):
    config = TrainingConfig(
        max_steps=1, batch_size=10, tokens_per_pack=tokens_per_pack, learning_rate=1e-9, warmup=0.0, log_steps=1
    )
    reference = some_reference(PAIRS)
    plan = training_data(tiny_model("llama"), PAIRS, one("simpo", SimPO(1.0)), config).plan
    objective = one("dpo", DPO(0.1))
    run_training(policy_model(tiny_model("llama")), tmp_path, TrainingData(PAIRS, plan, reference), objective, config)

    (line,) = metrics(tmp_path)
    expected = by_hand(policy_model(tiny_model("llama")), PAIRS, reference)
    assert line.keys() == NAMES | {"grad_norm", "learning_rate", "epoch", "step"}
    assert {name: line[name] for name in NAMES} == pytest.approx(expected, rel=1e-5)
    assert 0 < line["rewards/accuracies"] < 1


def test_a_line_covers_all_steps_since_the_one_before(tiny_model: Callable[[str], Path], tmp_path: Path):
    """Ten pairs in five steps of two, a line after steps 2, 4 and the last: 4, 4 and 2 pairs, hence the lengths."""
    config = TrainingConfig(batch_size=2, learning_rate=1e-9, log_steps=2)
    objective = one("dpo", DPO(0.1))
    data = training_data(tiny_model("llama"), PAIRS, objective, config)
    run_training(policy_model(tiny_model("llama")), tmp_path, data, objective, config)

    lengths = np.array([len(ids) for ids in tiny.as_pairs(PAIRS)["chosen_ids"]])
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 5]
    for line, steps in zip(lines, [(0, 1), (2, 3), (4,)], strict=True):
        rows = np.concatenate([data.plan.step_rows(step) for step in steps])
        assert line["lengths/chosen"] == lengths[rows].mean()


def test_sft_has_a_mean_over_tokens_and_no_margins(tiny_model: Callable[[str], Path], tmp_path: Path):
    config = TrainingConfig(max_steps=1, batch_size=10, learning_rate=1e-9, warmup=0.0, log_steps=1)
    objective = one("sft", SFT())
    data = training_data(tiny_model("llama"), PAIRS, objective, config, heldout=HELDOUT)
    run_training(policy_model(tiny_model("llama")), tmp_path, data, objective, config)

    model = policy_model(tiny_model("llama"))
    expected = []
    for pairs in (HELDOUT, PAIRS):
        rows = [dict(row) for row in tiny.as_pairs(pairs)]
        losses = [-row["weight"] * plain_logps(model, row, "chosen_ids").item() for row in rows]
        tokens = sum(len(row["chosen_ids"]) for row in rows)
        expected.append(sum(losses) / (np.mean(pairs["weight"]) * tokens))
    first, line, _ = metrics(tmp_path)
    assert [first["eval_loss"], line["loss"]] == pytest.approx(expected, rel=1e-5)
    assert not {"margins", "rewards/accuracies", "logps/rejected"} & line.keys()


@pytest.mark.parametrize("scale", [1.0, 40.0])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_weight_counts_relative_to_the_mean_of_the_whole_table(
    tiny_model: Callable[[str], Path], tmp_path: Path, batch_size: int, scale: float
):
    """Weights 1, 1, 1, 5 (mean 2) and loss ln 2 each: a step of one pair has ln 2 times 1/2 or 5/2; of two, their mean.

    Only ratios matter. The gradient is that of the pairs alone, times the same factor.
    """
    weights = np.array([1.0, 1.0, 1.0, 5.0])
    objective = one("dpo", DPO(0.1))
    config = TrainingConfig(
        batch_size=batch_size, learning_rate=1e-9, warmup=0.0, log_steps=1, max_grad_norm=0.0, tokens_per_pack=1
    )
    model, lines = tiny_model("llama"), []
    for name, each in (("weighted", weights * scale), ("plain", np.ones(4))):
        pairs = random_pairs(4).remove_columns("weight").add_column("weight", each.tolist())  # pyright: ignore
        data = training_data(model, pairs, objective, config)
        run_training(policy_model(model), tmp_path / name, data, objective, config)
        lines.append(metrics(tmp_path / name))
    factors = [weights[data.plan.step_rows(step)].mean() / 2 for step in range(data.plan.steps)]
    assert max(factors) == (2.5 if batch_size == 1 else 1.5)
    assert [line["loss"] for line in lines[0]] == pytest.approx([math.log(2) * each for each in factors], rel=1e-5)
    if batch_size == 1:
        norms = [line["grad_norm"] for line in lines[1]]
        expected = [norm * factor for norm, factor in zip(norms, factors, strict=True)]
        assert [line["grad_norm"] for line in lines[0]] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("tokens_per_pack", [10_000, 100])
def test_heldout_pairs_are_measured_against_their_own_reference(
    tiny_model: Callable[[str], Path], tmp_path: Path, tokens_per_pack: int
):
    """Before training, after every second step and at the end, once; the last line equals the saved policy's."""
    config = TrainingConfig(
        max_steps=5, batch_size=4, tokens_per_pack=tokens_per_pack, learning_rate=1e-2, eval_steps=2
    )
    objective = one("dpo", DPO(0.1))
    model = tiny_model("llama")
    data = training_data(model, PAIRS, objective, config, heldout=HELDOUT)
    figures = run_training(policy_model(model), tmp_path, data, objective, config)

    lines = [line for line in metrics(tmp_path) if "eval_loss" in line]
    assert [line["step"] for line in lines] == [0, 2, 4, 5]
    reference = reference_logps(model, HELDOUT, data.heldout_packs or [], config)
    expected = by_hand(AutoModelForCausalLM.from_pretrained(tmp_path / "policy"), HELDOUT, reference)
    assert {name: figures["heldout"]["eval_" + name] for name in NAMES} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert figures["heldout_first"]["eval_rewards/accuracies"] == 0.5
    assert figures["heldout"]["eval_rewards/accuracies"] not in (0.0, 0.5)


def test_evaluation_leaves_no_trace(tiny_model: Callable[[str], Path], tmp_path: Path):
    """The same weights with and without evaluations between; mode and random state are as they were."""
    objective = one("dpo", DPO(0.1))
    model = tiny_model("gpt2")
    found = []
    for name, eval_steps in (("with", 1), ("without", None)):
        config = TrainingConfig(max_steps=3, batch_size=4, learning_rate=1e-2, eval_steps=eval_steps)
        heldout = None if eval_steps is None else HELDOUT
        policy = policy_model(model)
        data = training_data(model, PAIRS, objective, config, heldout=heldout)
        run_training(policy, tmp_path / name, data, objective, config)
        found.append(policy.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())

    config = TrainingConfig(max_steps=1, batch_size=4)
    data = training_data(model, PAIRS, objective, config, heldout=HELDOUT)
    policy = policy_model(model)
    trainer = training._trainer(
        policy, build_tokenizer(), data, objective, config, tmp_path / "scratch", "training", 0, tmp_path / "logs",
        RunningState(objective), None, None,
    )  # fmt: skip
    for mode in (True, False):
        policy.train(mode)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        trainer.evaluate()
        after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]
        assert all(module.training is mode for module in policy.modules())


def test_a_training_whose_loss_is_not_finite_stops_and_names_the_pair(
    tiny_model: Callable[[str], Path], tmp_path: Path
):
    """Logged only at the end, so what finds it is no log; in one pack of several, and the step is not taken."""
    config = TrainingConfig(max_steps=3, batch_size=10, log_steps=100, tokens_per_pack=60)
    objective = one("dpo", DPO(0.1))
    data = training_data(tiny_model("llama"), PAIRS, objective, config)
    assert data.plan.accumulation > 1
    assert data.reference is not None
    broken = data.reference.copy()
    broken[[3, 13]] = -np.inf  # chosen and rejected of the fourth of ten pairs: inf - inf
    policy = policy_model(tiny_model("llama"))
    before = {name: weight.clone() for name, weight in policy.named_parameters()}
    with pytest.raises(ConfigError, match="so the training has diverged") as caught:
        run_training(policy, tmp_path, replace(data, reference=broken), objective, config)
    named = PAIRS[3]["example_id"]
    assert str(caught.value).startswith(f"training: the loss of {named} is not finite at step 1, so")
    assert all(torch.equal(weight, before[name]) for name, weight in policy.named_parameters())


def test_a_training_whose_gradient_is_not_finite_stops_and_names_the_pairs_of_the_step(
    tiny_model: Callable[[str], Path], tmp_path: Path
):
    config = TrainingConfig(max_steps=4, batch_size=4, log_steps=100, learning_rate=1e-3)
    objective = one("dpo", DPO(0.1))
    data = training_data(tiny_model("llama"), PAIRS, objective, config)
    policy = policy_model(tiny_model("llama"))
    passes = itertools.count(1)
    weight = next(iter(policy.parameters()))
    weight.register_hook(lambda given: given * (math.inf if next(passes) == 3 else 1.0))
    with pytest.raises(ConfigError, match=r"is not finite at step 3 \(its norm is (nan|inf)\)") as caught:
        run_training(policy, tmp_path, data, objective, config)
    ids = dict.fromkeys(PAIRS[int(row)]["example_id"] for row in data.plan.packs[2].rows)
    assert str(caught.value).startswith(f"training: the gradient of {', '.join(ids)} is not finite")

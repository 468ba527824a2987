"""A step's gradient is that of the mean over its pairs (tokens, for sft), however they are packed.

Measured as the change of the weights by one step of plain gradient descent with rate 1, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from training_helpers import metrics, plain_logps, policy_model, random_pairs, run_training, training_data

from seralign.config import TrainingConfig
from seralign.objectives import DPO, OBJECTIVES, SFT, ObjectiveSum, SimPO, Term, one
from seralign.training.train import TrainingData

PAIRS = random_pairs(12, soft=True)
# Some distance from the policy, so that the pairs pull with different force.
REFERENCE = np.random.default_rng(5).normal(-25, 10, size=(2, len(PAIRS)))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def gradient(loss: Tensor, model: nn.Module) -> Tensor:
    found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return torch.cat([value.flatten() for value in found])


def trained_gradient(model: Path, folder: Path, objective: ObjectiveSum, tokens_per_pack: int) -> tuple[Tensor, int]:
    """The gradient of one step over all pairs, and the number of packs that it took."""
    config = TrainingConfig(
        max_steps=1, batch_size=12, tokens_per_pack=tokens_per_pack, optimizer="sgd", schedule="constant",
        learning_rate=1.0, warmup=0.0, max_grad_norm=0.0, log_steps=1,
    )  # fmt: skip
    planned = training_data(model, PAIRS, one("simpo", SimPO(1.0)), config)
    data = TrainingData(PAIRS, planned.plan, REFERENCE.reshape(-1) if objective.uses_reference else None)
    policy = policy_model(model).double()
    before = weights(policy)
    run_training(policy, folder, data, objective, config)
    return before - weights(policy), data.plan.accumulation


def close(one: Tensor, two: Tensor, tolerance: float) -> bool:
    return float((one - two).norm()) <= tolerance * float(two.norm())


# The softmax of log-probabilities is float32, hence 1e-6 against a gradient that is float64 throughout.
@pytest.mark.parametrize("tokens_per_pack", [10_000, 150, 1], ids=["one pack", "some packs", "a pack a pair"])
def test_dpo_gradient_is_that_of_the_weighted_mean_by_hand(
    tiny_model: Callable[[str], Path], tmp_path: Path, tokens_per_pack: int
):
    found, packs = trained_gradient(tiny_model("llama"), tmp_path, one("dpo", DPO(0.1)), tokens_per_pack)

    policy = policy_model(tiny_model("llama")).double()
    total = torch.zeros((), dtype=torch.float64)
    for at, row in enumerate(map(dict, tiny.as_pairs(PAIRS))):
        h = (plain_logps(policy, row, "chosen_ids") - REFERENCE[0, at]) - (
            plain_logps(policy, row, "rejected_ids") - REFERENCE[1, at]
        )
        total = total - row["weight"] * logsigmoid(0.1 * (2 * row["p"] - 1) * h)
    loss = total / sum(PAIRS["weight"])
    expected = gradient(loss, policy)
    assert {10_000: packs == 1, 150: 1 < packs < 12, 1: packs == 12}[tokens_per_pack]
    assert close(found, expected, 1e-6)
    assert metrics(tmp_path)[0]["loss"] == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize("name", ["dpo", "simpo", "sft"])
def test_packing_and_accumulation_change_nothing(tiny_model: Callable[[str], Path], tmp_path: Path, name: str):
    objective = one(name, OBJECTIVES[name]())
    runs = {
        tokens: trained_gradient(tiny_model("llama"), tmp_path / str(tokens), objective, tokens)
        for tokens in (10_000, 100, 1)
    }

    assert [packs for _, packs in runs.values()] == sorted({packs for _, packs in runs.values()})
    whole = runs[10_000][0]
    assert close(runs[100][0], whole, 1e-6)
    assert close(runs[1][0], whole, 1e-6)


def test_a_sum_of_objectives_adds_their_weighted_gradients(tiny_model: Callable[[str], Path], tmp_path: Path):
    """Each term is a mean over its own unit: pairs for dpo, chosen tokens for sft."""
    dpo, sft = Term("dpo", DPO(0.5)), Term("sft", SFT(), 0.25)
    parts = {"dpo": ObjectiveSum((dpo,)), "sft": one("sft", SFT()), "sum": ObjectiveSum((dpo, sft))}
    found = {name: trained_gradient(tiny_model("llama"), tmp_path / name, own, 100)[0] for name, own in parts.items()}
    assert close(found["sum"], found["dpo"] + 0.25 * found["sft"], 1e-6)
    losses = {name: metrics(tmp_path / name)[0]["loss"] for name in parts}
    assert losses["sum"] == pytest.approx(losses["dpo"] + 0.25 * losses["sft"], rel=1e-6)
    assert metrics(tmp_path / "sum")[0]["margins"] == metrics(tmp_path / "dpo")[0]["margins"]


@pytest.mark.parametrize("tokens_per_pack", [10_000, 60])
def test_sft_is_transformers_own_loss_over_tokens(
    tiny_model: Callable[[str], Path], tmp_path: Path, tokens_per_pack: int
):
    """Without weights; labels of prompt and padding are -100, which transformers leaves out of its mean."""
    pairs = random_pairs(8, seed=3)
    config = TrainingConfig(
        max_steps=1, batch_size=8, tokens_per_pack=tokens_per_pack, optimizer="sgd", schedule="constant",
        learning_rate=1.0, warmup=0.0, max_grad_norm=0.0, log_steps=1,
    )  # fmt: skip
    objective = one("sft", SFT())
    policy = policy_model(tiny_model("llama")).double()
    before = weights(policy)
    run_training(policy, tmp_path, training_data(tiny_model("llama"), pairs, objective, config), objective, config)

    own = policy_model(tiny_model("llama")).double()
    rows = [dict(row) for row in tiny.as_pairs(pairs)]
    width = max(len(row["prompt_ids"]) + len(row["chosen_ids"]) for row in rows)
    ids, mask, labels = torch.zeros(8, width).long(), torch.zeros(8, width).long(), torch.full((8, width), -100)
    for at, row in enumerate(rows):
        start, end = len(row["prompt_ids"]), len(row["prompt_ids"]) + len(row["chosen_ids"])
        ids[at, :end] = torch.tensor([*row["prompt_ids"], *row["chosen_ids"]])
        mask[at, :end] = 1
        labels[at, start:end] = ids[at, start:end]
    loss = own(input_ids=ids, attention_mask=mask, labels=labels).loss
    expected = gradient(loss, own)
    assert metrics(tmp_path)[0]["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert close(before - weights(policy), expected, 1e-6)

"""Examples with different numbers of responses: loss and gradient of an objective of one's own, by hand.

Measured as the change of the weights by one step of plain gradient descent with rate 1, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from torch import Tensor, nn
from training_helpers import VOCAB, metrics, policy_model, run_training, training_data

from seralign.config import TrainingConfig
from seralign.config.objective import read_objective
from seralign.data.table_columns import numbered_responses
from seralign.records import Scores
from seralign.training.train import TrainingData

OBJECTIVE = read_objective({"name": "objectives.own_objective:Centred", "beta": 0.3})
COUNTS = (3, 1, 2, 5, 1, 2, 4, 2)


def ragged_table(seed: int) -> Dataset:
    """Examples of 1 to 5 responses with scores and weights; their prompts differ."""
    random = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return random.integers(3, VOCAB, size=random.integers(low, high)).tolist()

    rows = [(ids(2, 13), [[*ids(0, 12), 2] for _ in range(count)]) for count in COUNTS]
    scores = [Scores(tuple(random.normal(size=count))) for count in COUNTS]
    return tiny.examples_table(rows, scores, random.uniform(0.2, 3, len(COUNTS)).tolist())


EXAMPLES, HELDOUT = ragged_table(0), ragged_table(1)


def references(table: Dataset, seed: int) -> list[np.ndarray]:
    """Reference log-probabilities of the responses of each example."""
    return [np.random.default_rng([seed, at]).normal(-25, 10, count) for at, count in enumerate(COUNTS)]


def numbered(table: Dataset, of_example: list[np.ndarray]) -> np.ndarray:
    """Values of the responses of each example as values by number."""
    numbering = numbered_responses(table)
    return np.array([of_example[row][place] for row, place in zip(numbering.rows, numbering.places, strict=True)])


def by_hand(model: nn.Module, table: Dataset, reference: list[np.ndarray]) -> tuple[Tensor, list[list[float]]]:
    """The loss of all examples in one step, example by example, and the log-probabilities of their responses."""
    total, logps = torch.zeros((), dtype=torch.float64), []
    for row, against in zip(map(dict, table), reference, strict=True):
        own = torch.stack([tiny.reference_logp(model, row["prompt_ids"], ids) for ids in row["response_ids"]])
        reward = 0.3 * (own - torch.tensor(against))
        scores = torch.tensor(row["preference"])
        apart = (reward - reward.mean()) - (scores - scores.mean())
        total = total + row["weight"] * (apart.square().mean() + reward.mean().square())
        logps.append(own.tolist())
    return total / sum(table["weight"]), logps


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


@pytest.mark.parametrize("tokens_per_pack", [10_000, 120, 1], ids=["one pack", "some packs", "a pack an example"])
def test_loss_and_gradient_of_ragged_examples_are_those_by_hand(
    tiny_model: Callable[[str], Path], tmp_path: Path, tokens_per_pack: int
) -> None:
    config = TrainingConfig(
        max_steps=1, batch_size=len(COUNTS), tokens_per_pack=tokens_per_pack, optimizer="sgd", schedule="constant",
        learning_rate=1.0, warmup=0.0, max_grad_norm=0.0, log_steps=1,
    )  # fmt: skip
    planned = training_data(tiny_model("llama"), EXAMPLES, OBJECTIVE, config, HELDOUT)
    own, held = references(EXAMPLES, 2), references(HELDOUT, 3)
    data = TrainingData(
        EXAMPLES, planned.plan, numbered(EXAMPLES, own), HELDOUT, planned.heldout_packs, numbered(HELDOUT, held)
    )
    policy = policy_model(tiny_model("llama")).double()
    before = weights(policy)
    found = run_training(policy, tmp_path, data, OBJECTIVE, config)
    moved = before - weights(policy)

    policy = policy_model(tiny_model("llama")).double()
    loss, logps = by_hand(policy, EXAMPLES, own)
    expected = torch.cat([value.flatten() for value in torch.autograd.grad(loss, list(policy.parameters()))])
    packs = data.plan.accumulation
    assert {10_000: packs == 1, 120: 1 < packs < len(COUNTS), 1: packs == len(COUNTS)}[tokens_per_pack]
    # The softmax of log-probabilities is float32, hence 1e-6 against a gradient that is float64 throughout.
    assert float((moved - expected).norm()) <= 1e-6 * float(expected.norm())

    first, line, _ = metrics(tmp_path)
    assert line["loss"] == pytest.approx(loss.item(), rel=1e-6)
    # Metrics are means over examples of the means over their responses, without weights.
    assert line["logps/responses"] == pytest.approx(np.mean([np.mean(own) for own in logps]), rel=1e-6)
    lengths = [np.mean([len(ids) for ids in responses]) for responses in EXAMPLES["response_ids"]]
    assert line["lengths/responses"] == pytest.approx(np.mean(lengths))
    rewards = [0.3 * np.mean(np.array(mine) - against) for mine, against in zip(logps, own, strict=True)]
    assert line["rewards/responses"] == pytest.approx(np.mean(rewards), rel=1e-6)
    assert not {name for name in line if "chosen" in name or "rejected" in name or "margins" in name}

    loss, logps = by_hand(policy, HELDOUT, held)
    assert first["eval_loss"] == pytest.approx(loss.item(), rel=1e-6)
    values = found["heldout_values"][0]
    assert values == pytest.approx(numbered(HELDOUT, [np.array(own) for own in logps]), rel=1e-6)

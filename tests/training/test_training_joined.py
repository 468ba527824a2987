"""One step on pairs and demonstrations together: loss, gradient and metrics against plain model calls in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from training_helpers import VOCAB, metrics, policy_model, run_training, training_data

from seralign.config import TrainingConfig
from seralign.data.table_columns import numbered_responses
from seralign.objectives import AIHF, one
from seralign.records import Demonstration, Pair
from seralign.training.train import TrainingData

COUNTS = (2, 1, 1, 2, 2, 1, 2, 1)
OBJECTIVE = one("aihf", AIHF(0.3, 0.2))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


@pytest.mark.parametrize("tokens_per_pack", [10_000, 60, 1], ids=["one pack", "some packs", "a pack an example"])
def test_a_step_is_that_of_the_loss_by_hand(
    tiny_model: Callable[[str], Path], tmp_path: Path, tokens_per_pack: int
) -> None:
    random = np.random.default_rng(0)

    def ids(low: int, high: int) -> list[int]:
        return random.integers(3, VOCAB, size=random.integers(low, high)).tolist()

    rows = [(ids(2, 13), [[*ids(0, 12), 2] for _ in range(count)]) for count in COUNTS]
    says = [Pair(float(random.uniform(0.5, 1))) if count == 2 else Demonstration() for count in COUNTS]
    table = tiny.examples_table(rows, says, random.uniform(0.2, 3, len(COUNTS)).tolist())
    config = TrainingConfig(
        max_steps=1, batch_size=len(COUNTS), tokens_per_pack=tokens_per_pack, optimizer="sgd", schedule="constant",
        learning_rate=1.0, warmup=0.0, max_grad_norm=0.0, log_steps=1,
    )  # fmt: skip
    plan = training_data(tiny_model("llama"), table, OBJECTIVE, config).plan
    reference = random.normal(-25, 10, sum(COUNTS))
    policy = policy_model(tiny_model("llama")).double()
    before = weights(policy)
    run_training(policy, tmp_path, TrainingData(table, plan, reference), OBJECTIVE, config)
    moved = before - weights(policy)
    assert {10_000: plan.accumulation == 1, 60: 1 < plan.accumulation < 8, 1: plan.accumulation == 8}[tokens_per_pack]

    policy = policy_model(tiny_model("llama")).double()
    total, margins, shown = torch.zeros((), dtype=torch.float64), [], []
    numbering = numbered_responses(table)
    for number, row in enumerate(map(dict, table)):
        own = [tiny.reference_logp(policy, row["prompt_ids"], response) for response in row["response_ids"]]
        against = reference[numbering.rows == number]
        if len(own) == 1:
            shown.append(own[0].item())
            loss = -0.2 * own[0]
        else:
            h = (own[0] - against[0]) - (own[1] - against[1])
            margins.append(h.item())
            loss = -logsigmoid(0.3 * (2 * row["preference"][0] - 1) * h)
        total = total + row["weight"] * loss
    total = total / sum(table["weight"])
    expected = torch.cat([value.flatten() for value in torch.autograd.grad(total, list(policy.parameters()))])
    assert float((moved - expected).norm()) <= 1e-6 * float(expected.norm())

    (line,) = metrics(tmp_path)
    assert line["loss"] == pytest.approx(total.item(), rel=1e-6)
    # Each kind by itself, without weights.
    assert line["margins"] == pytest.approx(np.mean(margins), rel=1e-6)
    assert line["rewards/accuracies"] == np.mean([margin > 0 for margin in margins])
    assert line["logps/demonstrations"] == pytest.approx(np.mean(shown), rel=1e-6)
    lengths = [len(responses[0]) for responses in table["response_ids"]]
    for kind, count in (("chosen", 2), ("demonstrations", 1)):
        own = [length for length, responses in zip(lengths, COUNTS, strict=True) if responses == count]
        assert line[f"lengths/{kind}"] == pytest.approx(np.mean(own))

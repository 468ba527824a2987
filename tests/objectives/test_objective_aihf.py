"""AIHF: worked by hand, the gradient of its two forms on a categorical policy, its two halves, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seralign.config import load_config
from seralign.errors import ConfigError
from seralign.objectives import AIHF, DPO, ResponseValues

NAN = float("nan")
Row = list[tuple[float, float, float]]  # of each response: log pi, log pi_ref, preference
PAIR: Row = [(-10.0, -12.0, 1.0), (-14.0, -11.0, 0.0)]
SHOWN: Row = [(-10.0, -12.0, NAN)]


def examples(rows: list[Row], dtype: torch.dtype = torch.float64) -> ResponseValues:
    """First responses of all examples, then the second ones."""
    at = sorted((place, row) for row, own in enumerate(rows) for place in range(len(own)))
    values = torch.tensor([rows[row][place] for place, row in at], dtype=dtype)
    policy, reference, preference = values.unbind(1)
    number = torch.tensor([row for _, row in at])
    return ResponseValues(policy.clone().requires_grad_(), reference, torch.ones_like(policy), number, preference,
                          len(rows))  # fmt: skip


def gradient(losses: Tensor, values: ResponseValues) -> Tensor:
    return torch.autograd.grad(losses.sum(), values.policy)[0]


def test_by_hand() -> None:
    losses = AIHF(demonstration_weight=0.1).loss(examples([SHOWN, PAIR, SHOWN]))
    assert losses.tolist() == pytest.approx([1.0, 0.474077, 1.0], abs=1e-6)
    soft = [(-10.0, -12.0, 0.8), (-14.0, -11.0, 0.2)]
    assert AIHF().loss(examples([soft])).item() == pytest.approx(0.554355, abs=1e-6)
    assert AIHF(soft_labels="conservative").loss(examples([soft])).item() == pytest.approx(0.574077, abs=1e-6)


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_the_loss_is_the_joint_objective_of_a_reward(beta: float) -> None:
    """3 prompts, 5 responses each, a reward with hidden parameters: w L1 + L2 as the paper defines them, in float64.

    Its gradient in the parameters of the reward is that of the loss, whose policy is the optimal one of that reward.
    The gradient of L1 is the difference of two expectations of the reward's gradient.
    """
    torch.manual_seed(0)
    exact = {"dtype": torch.float64}
    features, weights = torch.randn(3, 5, 4, **exact), torch.randn(4, 6, **exact)
    theta = torch.randn(6, **exact).requires_grad_()
    reference = torch.randn(3, 5, **exact).log_softmax(1)
    reward = torch.tanh(features @ weights) @ theta + torch.sin(features @ weights @ theta)
    optimal = (reference + reward / beta).log_softmax(1)
    # Demonstrations and pairs by prompt and response.
    shown, chosen, rejected = [(0, 1), (1, 4), (1, 0)], [(0, 2), (2, 3)], [(0, 0), (2, 4)]
    at = [tuple(zip(*which, strict=True)) for which in (shown, chosen, rejected)]

    def slope(value: Tensor) -> Tensor:
        return torch.autograd.grad(value, theta, retain_graph=True)[0]

    first = torch.stack([optimal[place] for place in shown]).sum()
    own = optimal.detach().exp()
    sampled = torch.stack([(own[prompt] * reward[prompt]).sum() for prompt, _ in shown]).sum()
    irl = (slope(torch.stack([reward[place] for place in shown]).sum()) - slope(sampled)) / beta
    assert slope(first).tolist() == pytest.approx(irl.tolist(), rel=1e-10)

    second = torch.nn.functional.logsigmoid(reward[at[1]] - reward[at[2]]).sum()
    policy = torch.cat([optimal[place] for place in at])
    values = ResponseValues(
        policy,
        torch.cat([reference[place] for place in at]),
        torch.ones(7, **exact),
        torch.tensor([0, 1, 2, 3, 4, 3, 4]),
        torch.tensor([NAN, NAN, NAN, 1.0, 1.0, 0.0, 0.0], **exact),
        5,
    )
    loss = AIHF(beta, demonstration_weight=0.7).loss(values).sum()
    assert loss.item() == pytest.approx(-(0.7 * first + second).item(), rel=1e-12)
    assert slope(loss).tolist() == pytest.approx((-(0.7 * slope(first) + slope(second))).tolist(), rel=1e-10)


logps = st.floats(-400, -0.01)
pairs = st.tuples(logps, logps, logps, logps, st.sampled_from([0.0, 0.2, 0.5, 1.0])).map(
    lambda drawn: [(drawn[0], drawn[1], drawn[4]), (drawn[2], drawn[3], 1 - drawn[4])]
)
shows = st.tuples(logps, logps).map(lambda drawn: [(*drawn, NAN)])


@given(st.lists(st.one_of(pairs, shows), min_size=1, max_size=6), st.sampled_from(["geometric", "conservative"]))
def test_a_pair_is_dpo_and_a_demonstration_supervised_whatever_is_beside_them(rows: list[Row], form: str) -> None:
    """To the last bit, values and gradients."""
    together = examples(rows)
    objective, dpo = AIHF(0.3, 0.25, form), DPO(0.3, form)  # pyright: ignore
    losses = objective.loss(together)
    slopes = gradient(losses, together)
    of_row = together.example.tolist()
    for number, row in enumerate(rows):
        mine = [slopes[place].item() for place, owner in enumerate(of_row) if owner == number]
        if len(row) == 1:
            assert losses[number].item() == -0.25 * row[0][0]
            assert mine == [-0.25]
        else:
            alone = examples([row])
            wanted = dpo.loss(alone)
            assert losses[number].item() == wanted.item()
            assert mine == gradient(wanted, alone).tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"demonstration_weight": -0.1},
            r"objective\.demonstration_weight must be at least 0 and at most 1e6, got -0\.1",
        ),
        ({"beta": 0.0}, r"objective\.beta must be greater than 0, got 0\.0"),
    ],
)
def test_wrong_settings(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, {"out": "x", "world": {}, "objective": {"name": "aihf", **values}})


OWN = {"prompts": {"path": "prompts.jsonl"}, "scorer": "module:function"}
FILES = {"policy.model": "m", "data.pairs.path": "pairs.jsonl"}


@pytest.mark.parametrize("values", [FILES, {"policy.model": "m", "world": {"name": "own", "own": OWN}}])
def test_demonstrations_are_needed(values: dict, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data\.demonstrations is missing: objective\.name: aihf trains on "):
        load_config(None, {"out": str(tmp_path), "objective.name": "aihf", **values})


def test_a_sum_joins_demonstrations_if_all_of_its_terms_take_them() -> None:
    both = {"out": "x", **FILES, "data.demonstrations.path": "texts.jsonl"}
    joined = load_config(None, both | {"objective": [{"name": "aihf"}, {"name": "nll", "weight": 0.1}]})
    assert joined.objective.joins_demonstrations
    assert joined.supervised
    apart = load_config(None, both | {"objective": [{"name": "dpo"}, {"name": "sft"}], "sft": {}})
    assert not apart.objective.joins_demonstrations
    with pytest.raises(ConfigError, match=r"^data\.demonstrations are for sft, AIHF, SPIN and SAPO: "):
        load_config(None, both | {"objective": [{"name": "aihf"}, {"name": "dpo"}]})

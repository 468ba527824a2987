"""Losses of reward models: worked by hand, once more in plain Python, and as TRL's ``RewardTrainer`` has them."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from trl import RewardTrainer

from seralign.config import load_config
from seralign.errors import ConfigError
from seralign.objectives import Objective, ResponseValues, Reward, RewardRanking, RewardScores
from seralign.objectives.checked import try_objective
from seralign.objectives.sums import one

Rows = list[list[tuple[float, float]]]


def examples(rows: Rows) -> ResponseValues:
    """Examples of responses with a reward and a preference each."""
    at = sorted((place, row) for row, own in enumerate(rows) for place in range(len(own)))
    values = torch.tensor([rows[row][place] for place, row in at], dtype=torch.float64)
    return ResponseValues(
        policy=values[:, 0].clone().requires_grad_(),
        reference=None,
        lengths=torch.ones(len(at), dtype=torch.float64),
        example=torch.tensor([row for _, row in at]),
        preference=values[:, 1],
        examples=len(rows),
    )


def losses(objective: Objective, rows: Rows) -> list[float]:
    return objective.loss(examples(rows)).tolist()


def test_a_pair_by_hand() -> None:
    assert losses(Reward(), [[(2.0, 1.0), (0.5, 0.0)]]) == pytest.approx([0.201413], abs=1e-6)
    assert losses(Reward(), [[(2.0, 0.8), (0.5, 0.2)]]) == pytest.approx([0.501413], abs=1e-6)
    assert losses(Reward(center=0.01), [[(2.0, 1.0), (0.5, 0.0)]]) == pytest.approx([0.201413 + 0.0625], abs=1e-6)


def test_rankings_by_hand() -> None:
    row = [[(2.0, 1.0), (-1.0, 2.0), (0.5, 3.0)]]
    assert losses(RewardRanking(), row) == pytest.approx([0.650471], abs=1e-6)
    assert losses(RewardRanking(form="plackett_luce"), row) == pytest.approx([1.942725], abs=1e-6)
    for form in ("pairwise", "plackett_luce"):
        assert losses(RewardRanking(form=form, center=0.01), row)[0] == pytest.approx(
            losses(RewardRanking(form=form), row)[0] + 0.01, abs=1e-12
        )
        # Two responses in order are a pair, and a tie says nothing.
        both = [[(0.5, 2.0), (2.0, 1.0)], [(3.0, 1.0), (1.0, 1.0)]]
        assert losses(RewardRanking(form=form), both) == pytest.approx([0.201413, 0.0], abs=1e-6)


def test_scores_by_hand() -> None:
    objective = RewardScores(margin=0.5)
    assert losses(objective, [[(2.0, 4.0), (0.5, 2.0)]]) == pytest.approx([0.474077], abs=1e-6)
    assert losses(objective, [[(2.0, 4.0), (-1.0, 3.0), (0.5, 2.0)]]) == pytest.approx([0.893298], abs=1e-6)
    assert losses(RewardScores(margin=0.0), [[(2.0, 9.0), (0.5, 2.0)]]) == pytest.approx([0.201413], abs=1e-6)


def plainly(row: list[tuple[float, float]], margin: float, center: float) -> float:
    """The mean over ordered pairs of log(1 + e^(m ds - dr)), and the centring, with ``math`` alone."""
    found = [
        math.log1p(math.exp(margin * (a[1] - b[1]) - (a[0] - b[0]))) for a, b in itertools.permutations(row, 2)
        if a[1] > b[1]
    ]  # fmt: skip
    mean = sum(reward for reward, _ in row) / len(row)
    return (sum(found) / len(found) if found else 0.0) + center * (2 * mean) ** 2


rewards = st.floats(-20, 20)
rows = st.lists(
    st.lists(st.tuples(rewards, st.integers(1, 4).map(float)), min_size=2, max_size=5), min_size=1, max_size=4
)


@given(rows, st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.02]))
def test_scores_and_rankings_are_means_over_ordered_pairs(given_rows: Rows, margin: float, center: float) -> None:
    wanted = [plainly(row, margin, center) for row in given_rows]
    assert losses(RewardScores(margin, center), given_rows) == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    ranked = [[(reward, 5 - score) for reward, score in row] for row in given_rows]
    wanted = [plainly(row, 0.0, center) for row in given_rows]
    assert losses(RewardRanking("pairwise", center), ranked) == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(rows)
def test_a_constant_added_to_all_rewards_changes_only_the_centring(given_rows: Rows) -> None:
    moved = [[(reward + 3.0, score) for reward, score in row] for row in given_rows]
    assert losses(RewardScores(), moved) == pytest.approx(losses(RewardScores(), given_rows), rel=1e-7, abs=1e-9)


def by_trl(rewards: Tensor, margin: Tensor | None, center: float | None) -> Tensor:
    """TRL's own loss, for the rewards [2N] of chosen and rejected responses."""

    def model(**_: Any) -> Any:
        return SimpleNamespace(logits=rewards[:, None])

    model.training = True  # type: ignore[attr-defined]
    trainer: Any = object.__new__(RewardTrainer)
    trainer.model, trainer.args = model, SimpleNamespace(center_rewards_coefficient=center)
    gather = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer.accelerator, trainer._tp_size, trainer._total_train_tokens = gather, 1, 0
    trainer._metrics = {"train": {key: [] for key in ("min_reward", "mean_reward", "max_reward", "accuracy", "margin")}}
    inputs: dict[str, Any] = {"attention_mask": torch.ones(2, 2)}
    return trainer.compute_loss(model, inputs | ({} if margin is None else {"margin": margin}))


@pytest.mark.parametrize("center", [None, 0.05])
@pytest.mark.parametrize("with_margin", [False, True])
def test_value_and_gradient_are_those_of_trl(center: float | None, with_margin: bool) -> None:
    random = np.random.default_rng(0)
    drawn = torch.tensor(random.normal(size=(2, 16), scale=2.0))
    scores = torch.tensor(np.sort(random.choice(9, size=(2, 16)) + random.random((2, 16)), axis=0)[::-1].copy())
    rows = [
        [(float(w), float(s) if with_margin else 1.0), (float(l), float(t) if with_margin else 0.0)]
        for w, l, s, t in zip(*drawn, *scores, strict=True)  # noqa: E741
    ]
    responses = examples(rows)
    ours = RewardScores(1.0, center or 0.0) if with_margin else Reward(center or 0.0)
    theirs_of = drawn.reshape(-1).clone().requires_grad_()
    theirs = by_trl(theirs_of, scores[0] - scores[1] if with_margin else None, center)
    loss = ours.loss(responses).mean()
    torch.testing.assert_close(loss, theirs, rtol=1e-12, atol=1e-12)
    (own,) = torch.autograd.grad(loss, responses.policy)
    (wanted,) = torch.autograd.grad(theirs, theirs_of)
    torch.testing.assert_close(own, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("objective", [Reward(), RewardRanking(), RewardRanking("plackett_luce"), RewardScores()])
def test_hand_made_examples_have_finite_losses_and_gradients(objective: Objective) -> None:
    """``try_objective`` raises otherwise."""
    assert try_objective(one("own", objective)) is None


def test_a_reward_model_and_a_policy_cannot_be_trained_at_once() -> None:
    given = {"out": "x", "world": {}, "objective": [{"name": "dpo"}, {"name": "reward"}]}
    with pytest.raises(ConfigError, match=r"^objective\[1\]\.name: reward and dpo cannot be added"):
        load_config(None, given)


@pytest.mark.parametrize(("key", "value"), [("center", -0.1), ("margin", -1.0)])
def test_a_setting_beyond_its_range(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^objective\.{key} must be at least 0"):
        load_config(None, {"out": "x", "world": {}, "objective": {"name": "reward_scores", key: value}})

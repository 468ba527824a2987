"""Objectives of rankings and of labels: worked by hand, once more as the papers write them, and as TRL has them."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_pairs import pairs
from torch import Tensor

from seralign.errors import ConfigError
from seralign.objectives import BCO, DPO, KTO, PlackettLuce, ResponseValues
from seralign.objectives.base import StepValues


def rankings(rows: list[list[tuple[float, int]]], dtype: torch.dtype = torch.float64) -> ResponseValues:
    """Examples of responses with a log-ratio and a rank each; log pi_ref = -20."""
    at = [(place, row) for row, own in enumerate(rows) for place in range(len(own))]
    ordered = [(row, *rows[row][place]) for place, row in sorted(at)]
    ratios = torch.tensor([ratio for _, ratio, _ in ordered], dtype=dtype)
    return ResponseValues(
        policy=ratios - 20,
        reference=torch.full_like(ratios, -20),
        lengths=torch.ones_like(ratios),
        example=torch.tensor([row for row, _, _ in ordered]),
        preference=torch.tensor([rank for _, _, rank in ordered], dtype=dtype),
        examples=len(rows),
    )


def labels(ratios: list[float], desirable: list[float], mismatched: list[float]) -> ResponseValues:
    """Responses with a log-ratio and a label, each with a mismatched response; they are the whole step."""
    policy = torch.tensor([*ratios, *mismatched], dtype=torch.float64)
    responses = ResponseValues(
        policy=policy - 20,
        reference=torch.full_like(policy, -20),
        lengths=torch.ones_like(policy),
        example=torch.arange(len(ratios)).repeat(2),
        preference=torch.tensor([*desirable, *[math.nan] * len(ratios)], dtype=torch.float64),
        examples=len(ratios),
    )
    return replace(responses, step=StepValues(responses, torch.arange(len(ratios))))


def by_the_paper(rewards: list[float], ranks: list[int], top: int | None = None) -> float:
    """-log of the product of the chances that each response is chosen among itself and those below it."""
    chance = 1.0
    for reward, rank in zip(rewards, ranks, strict=True):
        if top is not None and sum(other < rank for other in ranks) >= top:
            continue
        below = [math.exp(other) for other, its in zip(rewards, ranks, strict=True) if its > rank]
        chance *= math.exp(reward) / (math.exp(reward) + sum(below))
    return -math.log(chance)


@pytest.mark.parametrize(
    ("ranks", "top", "loss"),
    [
        ((1, 2, 3), None, 1.833843),
        ((1, 2, 3), 1, 0.920828),
        ((1, 2, 3), 2, 1.833843),
        ((1, 2, 2), None, 0.920828),
        ((1, 1, 2), None, 1.557412),
        ((1, 1, 2), 1, 1.557412),
        ((1, 1, 1), None, 0.0),
    ],
)
def test_plackett_luce_worked_by_hand(ranks: tuple[int, ...], top: int | None, loss: float) -> None:
    ranking = list(zip((2.0, -3.0, 1.0), ranks, strict=True))
    for order in itertools.permutations(ranking):
        found = PlackettLuce(0.1, top).loss(rankings([list(order)]))
        assert found.tolist() == [pytest.approx(loss, abs=1e-6)]


@given(
    st.lists(
        st.lists(st.tuples(st.floats(-50, 50), st.integers(1, 4)), min_size=1, max_size=5), min_size=1, max_size=4
    ),
    st.sampled_from([None, 1, 2]),
)
def test_plackett_luce_once_more_in_float64(rows: list[list[tuple[float, int]]], top: int | None) -> None:
    found = PlackettLuce(0.3, top).loss(rankings(rows))
    expected = [by_the_paper([0.3 * ratio for ratio, _ in row], [rank for _, rank in row], top) for row in rows]
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plackett_luce_of_two_responses_is_dpo_to_the_last_bit(dtype: torch.dtype) -> None:
    random = np.random.default_rng(0)
    sides = [torch.tensor(random.normal(size=200) * 30, dtype=dtype) for _ in range(4)]
    ones = torch.ones(200, dtype=dtype)
    chosen, rejected, *against = sides
    pair = pairs(chosen, rejected, against[0], against[1], ones, ones, ones)
    first_better = torch.tensor(random.integers(0, 2, 200), dtype=torch.bool)
    p = torch.where(first_better, 1.0, 0.0).to(dtype)
    ranks = torch.where(torch.cat([first_better, ~first_better]), 1.0, 2.0).to(dtype)
    found = []
    for objective, preference in ((DPO(0.1), torch.cat([p, 1 - p])), (PlackettLuce(0.1), ranks)):
        policy = pair.policy.clone().requires_grad_()
        loss = objective.loss(replace(pair, policy=policy, preference=preference))
        (gradient,) = torch.autograd.grad(loss.sum(), policy)
        found.append((loss.detach(), gradient))
    for dpo, ranking in zip(*found, strict=True):
        assert torch.equal(dpo, ranking)


def test_plackett_luce_pushes_the_best_up_and_the_worst_down_and_survives_extremes() -> None:
    responses = rankings([[(300.0, 3), (-300.0, 1), (0.0, 2)], [(1.0, 1)]], torch.float32)
    policy = responses.policy.clone().requires_grad_()
    loss = PlackettLuce(1.0).loss(replace(responses, policy=policy))
    assert loss.tolist() == [pytest.approx(900.0), 0.0]
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    # In order of the places: rank 3, the lone response, rank 1, rank 2.
    assert gradient.tolist() == pytest.approx([2.0, 0.0, -1.0, -1.0])


def test_responses_are_padded_in_their_order() -> None:
    responses = rankings([[(1.0, 1), (2.0, 2)], [(3.0, 1)], [(4.0, 3), (5.0, 1), (6.0, 2)]])
    assert responses.padded(responses.policy + 20, -1.0).tolist() == [[1, 2, -1], [3, -1, -1], [4, 5, 6]]


@pytest.mark.parametrize(
    ("mismatched", "losses"), [([1.0, 3.0], [0.425557, 0.377541]), ([-1.0, -3.0], [0.377541, 0.425557])]
)
def test_kto_worked_by_hand(mismatched: list[float], losses: list[float]) -> None:
    responses = labels([5.0, -3.0], [1.0, 0.0], mismatched)
    assert KTO(0.1).loss(responses).tolist() == pytest.approx(losses, abs=1e-6)
    weighted = KTO(0.1, desirable_weight=2.0, undesirable_weight=0.5).loss(responses).tolist()
    assert weighted == pytest.approx([2 * losses[0], losses[1] / 2], abs=1e-6)


def test_kto_has_no_gradient_through_the_divergence_and_the_mean_is_of_the_step() -> None:
    whole = labels([5.0, -3.0, 1.0], [1.0, 0.0, 1.0], [1.0, 3.0, 8.0])
    assert whole.reference is not None
    at = torch.tensor([0, 3])
    policy = whole.policy[at].clone().requires_grad_()
    part = ResponseValues(
        policy, whole.reference[at], whole.lengths[at], torch.tensor([0, 0]), whole.preference[at], 1,
        step=StepValues(whole, torch.tensor([0])),
    )  # fmt: skip
    loss = KTO(0.1).loss(part)
    # z = 4
    assert loss.item() == pytest.approx(1 - 1 / (1 + math.exp(-0.1)), abs=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    above = 1 / (1 + math.exp(-0.1))
    assert gradient.tolist() == pytest.approx([-0.1 * above * (1 - above), 0.0])


@pytest.mark.parametrize("mismatched", [[1.0, 3.0, -1.0, 2.5], [-4.0, 1.0, 0.5, -2.0]])
def test_kto_equals_trl(mismatched: list[float]) -> None:
    """Value and gradient of ``KTOTrainer._compute_loss``, which is given the log-probabilities of its model."""
    from trl.trainer.kto_trainer import KTOTrainer

    ratios, desirable = [5.0, -3.0, 0.5, 1.5], [1.0, 0.0, 1.0, 0.0]
    responses = labels(ratios, desirable, mismatched)
    own, others = responses.policy[:4].clone().requires_grad_(), responses.policy[4:]
    ids = torch.zeros(4, 2, dtype=torch.long)

    def model(**_: Any) -> SimpleNamespace:
        column = own[:, None]
        return SimpleNamespace(log_probs=column, entropy=column.detach(), mean_logits=column.detach())

    same: Any = lambda value: value  # noqa: E731
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), calculate_KL=True, aux_loss_enabled=False, precompute_ref_logps=True,
        accelerator=SimpleNamespace(device="cpu", gather_for_metrics=same), loss_type="kto", beta=0.1,
        desirable_weight=1.5, undesirable_weight=0.75, _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0, _tp_size=1, _compute_kl_logps=lambda *_: others,
    )  # fmt: skip
    batch: dict[str, Tensor] = {
        "input_ids": ids, "attention_mask": ids + 1, "completion_mask": torch.tensor([[0, 1]] * 4),
        "label": torch.tensor(desirable, dtype=torch.bool), "ref_logps": torch.full((4,), -20.0, dtype=torch.float64),
        "ref_KL_logps": torch.full((4,), -20.0, dtype=torch.float64),
    }  # fmt: skip
    theirs = KTOTrainer._compute_loss(trainer, model, batch, False)  # pyright: ignore
    (of_theirs,) = torch.autograd.grad(theirs, own)
    policy = torch.cat([own, others])
    ours = KTO(0.1, 1.5, 0.75).loss(replace(responses, policy=policy)).mean()
    (of_ours,) = torch.autograd.grad(ours, own)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.testing.assert_close(of_ours, of_theirs, rtol=1e-9, atol=0)
    assert float(of_ours.abs().min()) > 0


@pytest.mark.parametrize(
    ("kind", "settings", "key"),
    [
        (PlackettLuce, {"top": 0}, "top"), (PlackettLuce, {"beta": 0.0}, "beta"), (KTO, {"beta": -1.0}, "beta"),
        (KTO, {"desirable_weight": 0.0}, "desirable_weight"),
        (KTO, {"undesirable_weight": math.inf}, "undesirable_weight"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(kind: Any, settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key} must be"):
        kind(**settings)


def alone(ratios: list[float], desirable: list[float]) -> ResponseValues:
    """Responses with a log-ratio and a label each."""
    policy = torch.tensor(ratios, dtype=torch.float64)
    liked = torch.tensor(desirable, dtype=torch.float64)
    at = torch.arange(len(ratios))
    return ResponseValues(policy, torch.zeros_like(policy), torch.ones_like(policy), at, liked, len(ratios))


def test_bco_of_labels_worked_by_hand() -> None:
    """The shift is 0.1; the losses are those of the two sides of a pair."""
    responses = replace(alone([2.0, -3.0, 2.0, -3.0], [1.0, 0.0, 0.0, 1.0]), state=(6.0, 1.0))
    losses = [
        math.log1p(math.exp(-0.1)),
        math.log1p(math.exp(-0.4)),
        math.log1p(math.exp(0.1)),
        math.log1p(math.exp(0.4)),
    ]
    assert BCO(0.1).loss(responses).tolist() == pytest.approx(losses, abs=1e-12)
    assert losses[:2] == pytest.approx([0.644397, 0.513015], abs=1e-6)


def test_bco_of_a_pair_is_the_sum_of_its_labels_and_leaves_mismatched_responses_out() -> None:
    own, ratios = BCO(0.1), torch.tensor([2.0, -3.0, 7.0], dtype=torch.float64)
    mixed = ResponseValues(ratios, torch.zeros_like(ratios), torch.ones_like(ratios), torch.tensor([0, 1, 0]),
                           torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), 2, state=(6.0, 1.0))  # fmt: skip
    first, second, third = own.loss(replace(alone([2.0, -3.0, 7.0], [1.0, 0.0, 0.0]), state=(6.0, 1.0))).tolist()
    assert own.loss(mixed).tolist() == pytest.approx([first + third, second])
    beside = replace(labels([2.0, -3.0], [1.0, 0.0], [50.0, 60.0]), state=(6.0, 1.0))
    assert own.loss(beside).tolist() == pytest.approx([first, second])
    assert own.next_state((0.0, 0.0), beside) == pytest.approx((2, -0.5))

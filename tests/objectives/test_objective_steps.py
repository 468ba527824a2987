"""Objectives that read more than their own examples: the whole step, or the steps before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from objective_pairs import pairs

from seralign.objectives import AOT, BCO, OBJECTIVES, ResponseValues, UnpairedAOT
from seralign.objectives.base import StepValues
from seralign.training.steps import joined


def of_ratios(chosen: list[float], rejected: list[float], labels: list[float] | None = None) -> ResponseValues:
    """Pairs whose reference is log pi_ref = 0, so that log-ratios are log-probabilities."""
    first, second = (torch.tensor(side, dtype=torch.float64) for side in (chosen, rejected))
    zeros = torch.zeros_like(first)
    p = torch.ones_like(first) if labels is None else torch.tensor(labels, dtype=torch.float64)
    return pairs(first, second, zeros, zeros, zeros + 1, zeros + 1, p)


def in_step(responses: ResponseValues, step: ResponseValues | None = None, at: list[int] | None = None):
    whole = replace(responses if step is None else step, policy=(step or responses).policy.detach())
    places = torch.arange(responses.examples) if at is None else torch.tensor(at)
    return replace(responses, step=StepValues(whole, places))


def test_aot_worked_by_hand() -> None:
    policy = torch.tensor([4.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    reference = torch.tensor([-1.0, 3.0, 0.0, 0.0], dtype=torch.float64)
    responses = replace(of_ratios([0, 0], [0, 0]), policy=policy, reference=reference)
    found = AOT(0.1).loss(in_step(responses))
    assert found.tolist() == pytest.approx([0.644397, 0.598139], abs=1e-6)


def test_unpaired_aot_worked_by_hand() -> None:
    responses = of_ratios([2.0, 5.0], [-3.0, -4.0])
    assert UnpairedAOT(0.1).loss(in_step(responses)).tolist() == pytest.approx([0.404294, 0.404294], abs=1e-6)


@pytest.mark.parametrize("kind", [AOT, UnpairedAOT])
def test_a_step_in_parts_is_the_step_as_a_whole(kind: type) -> None:
    """In value summed over the step, and in the gradient of every response."""
    random = np.random.default_rng(0)
    row = [torch.tensor(random.normal(size=9) * 5) for _ in range(4)] + [torch.ones(9, dtype=torch.float64)] * 3
    row[6] = torch.tensor(random.integers(0, 2, 9), dtype=torch.float64)
    whole = pairs(*row)
    policy = whole.policy.clone().requires_grad_()
    together = kind(0.3).loss(in_step(replace(whole, policy=policy), whole))
    (expected,) = torch.autograd.grad(together.sum(), policy)
    losses = []
    found = torch.zeros_like(expected)
    for rows in ([0, 4, 7], [1, 2, 3, 5, 6, 8]):
        part = pairs(*(value[rows] for value in row))
        own = part.policy.clone().requires_grad_()
        loss = kind(0.3).loss(in_step(replace(part, policy=own), whole, rows))
        (gradient,) = torch.autograd.grad(loss.sum(), own)
        found[[*rows, *(9 + at for at in rows)]] = gradient
        losses.append(loss.detach())
        torch.testing.assert_close(loss.detach(), together.detach()[rows], rtol=1e-12, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert float(expected.abs().min()) > 0


@pytest.mark.parametrize("kind", [AOT, UnpairedAOT])
def test_the_sorted_loss_is_that_of_the_papers_sum(kind: type) -> None:
    """The sum over the step, with both sides differentiated as sorted tensors."""
    random = np.random.default_rng(1)
    row = [torch.tensor(random.normal(size=7) * 5) for _ in range(4)] + [torch.ones(7, dtype=torch.float64)] * 3
    responses = pairs(*row)
    policy = responses.policy.clone().requires_grad_()
    assert responses.reference is not None
    if kind is AOT:
        quantiles = (policy[:7] - policy[7:]).sort().values - (row[2] - row[3]).sort().values
    else:
        ratios = policy - responses.reference
        quantiles = ratios[:7].sort().values - ratios[7:].sort().values
    loss = torch.log(1 + torch.exp(-0.2 * quantiles)).sum()
    (expected,) = torch.autograd.grad(loss, policy)
    own = responses.policy.clone().requires_grad_()
    found = kind(0.2).loss(in_step(replace(responses, policy=own), responses)).sum()
    (gradient,) = torch.autograd.grad(found, own)
    torch.testing.assert_close(found.detach(), loss.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_a_label_of_zero_is_the_swapped_pair(name: str) -> None:
    as_given = of_ratios([2.0, 5.0, 1.0], [-3.0, 4.0, 2.5], [1.0, 0.0, 1.0])
    swapped = of_ratios([2.0, 4.0, 1.0], [-3.0, 5.0, 2.5], [1.0, 1.0, 1.0])
    own = OBJECTIVES[name]()
    assert torch.equal(own.loss(in_step(as_given)), own.loss(in_step(swapped)))


def test_the_shift_of_bco_is_the_mean_of_all_rewards_so_far() -> None:
    state = BCO.initial_state
    seen: list[float] = []
    for chosen, rejected in (([2.0], [-3.0]), ([1.0, 4.0, 7.0], [0.5, -8.0, 3.0])):
        state = BCO(0.1).next_state(state, of_ratios(chosen, rejected))
        seen += [*chosen, *rejected]
        assert state == pytest.approx((len(seen), np.mean(seen)))


def test_packs_are_joined_by_the_place_of_their_responses() -> None:
    """Examples with one to three responses: all first ones, then all second ones, then the third."""

    def part(values: list[float], example: list[int], examples: int) -> ResponseValues:
        own = torch.tensor(values)
        return ResponseValues(own, own - 1, own.abs(), torch.tensor(example), own / 10, examples)

    found = joined([part([1.0, 2.0, 3.0, 4.0], [0, 1, 0, 0], 2), part([5.0, 6.0, 7.0], [0, 1, 1], 2)])
    assert found.policy.tolist() == [1.0, 2.0, 5.0, 6.0, 3.0, 7.0, 4.0]
    assert found.example.tolist() == [0, 1, 2, 3, 0, 3, 0]
    assert found.reference is not None
    assert found.reference.tolist() == [0.0, 1.0, 4.0, 5.0, 2.0, 6.0, 3.0]
    assert found.examples == 4
    assert joined([part([2.0], [0], 1)]).policy.tolist() == [2.0]

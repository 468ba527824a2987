"""LD-DPO, WPO and BMC, which read tokens: hand-worked values, an independent implementation, soft labels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from objective_pairs import pairs
from torch import Tensor

from seralign.objectives import BMC, DPO, LDDPO, WPO, ResponseValues
from seralign.objectives.base import TokenValues
from seralign.objectives.pairs import SoftLabels
from seralign.training.edits import edited_tokens


def of_tokens(sides: list[list[Tensor]], references: list[list[Tensor]], p: Tensor) -> ResponseValues:
    """Pairs from the log-probabilities of the tokens of both sides."""
    flat, flat_reference = (torch.cat([*first, *second]) for first, second in (sides, references))
    sums = [torch.stack([tokens.sum() for tokens in side]) for side in (*sides, *references)]
    lengths = [torch.tensor([float(len(tokens)) for tokens in side], dtype=torch.float64) for side in sides]
    responses = pairs(sums[0], sums[1], sums[2], sums[3], lengths[0], lengths[1], p)
    return replace(responses, tokens=TokenValues(flat, flat_reference))


def random_pairs(count: int = 20) -> tuple[list[list[Tensor]], list[list[Tensor]], Tensor]:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 9, (2, count))
    sides, references = (
        [[torch.tensor(-4 * random.random(length)) for length in side] for side in lengths] for _ in range(2)
    )
    return sides, references, torch.tensor(random.random(count))


@pytest.mark.parametrize(
    ("form", "p", "expected"),
    [("geometric", 1.0, 0.371101), ("geometric", 0.8, 0.481675), ("conservative", 1.0, 0.371101),
     ("conservative", 0.8, 0.531101)],
)  # fmt: skip
def test_worked_by_hand(form: str, p: float, expected: float) -> None:
    ratios = [torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64), torch.tensor([-1.0, -2.0], dtype=torch.float64)]
    zeros = [torch.zeros_like(tokens) for tokens in ratios]
    responses = of_tokens([[ratios[0]], [ratios[1]]], [[zeros[0]], [zeros[1]]], torch.tensor([p], dtype=torch.float64))
    assert LDDPO(0.1, 0.5, form).loss(responses).item() == pytest.approx(expected, abs=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["geometric", "conservative"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_value_and_gradient_are_those_of_the_paper(form: str, alpha: float) -> None:
    """Token by token, one pair after the other."""
    sides, references, p = random_pairs()
    leaves = [[tokens.clone().requires_grad_() for tokens in side] for side in sides]
    expected = []
    for number in range(len(p)):
        both = []
        shared = min(len(side[number]) for side in sides)
        for side, reference in zip(leaves, references, strict=True):
            ratio = torch.zeros((), dtype=torch.float64)
            for place, (own, other) in enumerate(zip(side[number], reference[number], strict=True)):
                ratio = ratio + (1.0 if place < shared else alpha) * (own - other)
            both.append(ratio)
        z = 0.3 * (both[0] - both[1])
        if form == "geometric":
            expected.append(torch.log(1 + torch.exp(-(2 * p[number] - 1) * z)))
        else:
            expected.append(p[number] * torch.log(1 + torch.exp(-z)) + (1 - p[number]) * torch.log(1 + torch.exp(z)))
    other = [[tokens.clone().requires_grad_() for tokens in side] for side in sides]
    found = LDDPO(0.3, alpha, form).loss(of_tokens(other, references, p))  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=0)
    first = torch.autograd.grad(torch.stack(expected).sum(), [tokens for side in leaves for tokens in side])
    second = torch.autograd.grad(found.sum(), [tokens for side in other for tokens in side])
    for one, two in zip(first, second, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-14)


def test_all_tokens_whole_are_dpo() -> None:
    responses = of_tokens(*random_pairs())
    torch.testing.assert_close(LDDPO(0.3, 1.0).loss(responses), DPO(0.3).loss(responses), rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", ["geometric", "conservative"])
def test_the_swapped_pair_with_the_opposite_label_is_the_same(form: str) -> None:
    sides, references, p = random_pairs()
    own = LDDPO(0.3, 0.4, form)  # type: ignore[arg-type]
    swapped = of_tokens(sides[::-1], references[::-1], 1 - p)
    torch.testing.assert_close(own.loss(of_tokens(sides, references, p)), own.loss(swapped), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("form", "p"), [("geometric", 1.0), ("conservative", 0.8)])
def test_wpo_worked_by_hand(form: str, p: float) -> None:
    sides = [[torch.full((5,), -2.0, dtype=torch.float64)], [torch.full((4,), -3.5, dtype=torch.float64)]]
    references = [[torch.full((5,), -2.4, dtype=torch.float64)], [torch.full((4,), -2.75, dtype=torch.float64)]]
    responses = of_tokens(sides, references, torch.tensor([p], dtype=torch.float64))
    assert responses.tokens is not None
    collisions = torch.full((9,), -1.0, dtype=torch.float64)
    responses = replace(responses, tokens=replace(responses.tokens, collisions=collisions))
    expected = {"geometric": 0.014316, "conservative": math.exp(-3.5) * 0.574077}[form]
    own = WPO(0.1, "sampled", form)  # type: ignore[arg-type]
    assert own.loss(responses).item() == pytest.approx(expected, abs=1e-6)


# --- BMC


def with_edits(responses: ResponseValues, edits: Tensor) -> ResponseValues:
    assert responses.tokens is not None
    return replace(responses, tokens=replace(responses.tokens, edits=edits))


@pytest.mark.parametrize(
    ("form", "p", "expected"),
    [("geometric", 1.0, 0.526710), ("geometric", 0.8, 0.589305), ("conservative", 1.0, 0.526710),
     ("conservative", 0.8, 0.599953)],
)  # fmt: skip
def test_bmc_worked_by_hand(form: SoftLabels, p: float, expected: float) -> None:
    sides = [torch.tensor([-0.1, -1.0], dtype=torch.float64), torch.tensor([-0.1, -0.5], dtype=torch.float64)]
    references = [torch.tensor([-0.2, -2.0], dtype=torch.float64), torch.tensor([-0.2, -0.25], dtype=torch.float64)]
    responses = of_tokens(
        [[sides[0]], [sides[1]]], [[references[0]], [references[1]]], torch.tensor([p], dtype=torch.float64)
    )
    responses = with_edits(responses, torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64))
    assert BMC(0.1, 2.0, form).loss(responses).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("form", ["geometric", "conservative"])
@pytest.mark.parametrize("delta", [0.0, 1.5, 50.0])
def test_bmc_once_more_token_by_token(form: SoftLabels, delta: float) -> None:
    """Value and gradient: the weights have none."""
    sides, references, p = random_pairs()
    leaves, other = ([[tokens.clone().requires_grad_() for tokens in side] for side in sides] for _ in range(2))
    random = np.random.default_rng(1)
    edits = [[torch.tensor(1.0 * random.integers(0, 2, len(tokens))) for tokens in side] for side in sides]
    expected = []
    for number in range(len(p)):
        both = []
        for side, reference, marks in zip(leaves, references, edits, strict=True):
            ratio = torch.zeros((), dtype=torch.float64)
            for own, against, mark in zip(side[number], reference[number], marks[number], strict=True):
                ratio = ratio + (1 + mark.item() * min(1 / math.exp(own.item()), delta)) * (own - against)
            both.append(ratio)
        z = 0.3 * (both[0] - both[1])
        if form == "geometric":
            expected.append(torch.log(1 + torch.exp(-(2 * p[number] - 1) * z)))
        else:
            expected.append(p[number] * torch.log(1 + torch.exp(-z)) + (1 - p[number]) * torch.log(1 + torch.exp(z)))
    responses = with_edits(of_tokens(other, references, p), torch.cat([*edits[0], *edits[1]]))
    found = BMC(0.3, delta, form).loss(responses)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-10, atol=1e-12)
    if delta == 0:
        torch.testing.assert_close(found, DPO(0.3, form).loss(responses), rtol=1e-10, atol=1e-12)
    first = torch.autograd.grad(torch.stack(expected).sum(), [tokens for side in leaves for tokens in side])
    second = torch.autograd.grad(found.sum(), [tokens for side in other for tokens in side])
    for one, two in zip(first, second, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_bmc_holds_tokens_that_are_next_to_impossible() -> None:
    tokens = [torch.tensor([-2.0, -300.0]), torch.tensor([-120.0])]
    zeros = [torch.zeros_like(each) for each in tokens]
    responses = of_tokens([[tokens[0]], [tokens[1]]], [[zeros[0]], [zeros[1]]], torch.tensor([1.0]))
    responses = with_edits(replace(responses, policy=responses.policy.float()), torch.ones(3))
    assert math.isfinite(BMC(0.1).loss(responses).item())


def test_edited_tokens_are_those_that_a_diff_finds() -> None:
    first, second = edited_tokens([5, 6, 7, 1], [5, 8, 9, 7, 1])
    assert (first.tolist(), second.tolist()) == ([0, 1, 0, 0], [0, 1, 1, 0, 0])
    assert [marks.tolist() for marks in edited_tokens([4, 5], [4, 5])] == [[0, 0], [0, 0]]
    assert [marks.tolist() for marks in edited_tokens([4, 5], [6])] == [[1, 1], [1]]
    # A token that occurs often counts like any other.
    long = [3] * 300
    assert [marks.sum() for marks in edited_tokens([*long, 4], [*long, 5])] == [1, 1]

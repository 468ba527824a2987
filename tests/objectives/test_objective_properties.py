"""Properties that hold for every margin and every label."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_pairs import PAIRWISE, margin, objective, pairs
from torch import Tensor

from seralign.objectives import IPO, ResponseValues

timeless = settings(deadline=None)  # a busy machine is not a failure
logp = st.floats(-1e4, 0.0, width=32)
beta = st.sampled_from([0.01, 0.1, 0.5, 2.0])
length = st.integers(1, 2048)


def pair(
    chosen: float, rejected: float, reference: tuple[float, ...], lengths: tuple[int, ...], p: float
) -> ResponseValues:
    row = [torch.tensor([x], dtype=torch.float32) for x in (chosen, rejected, *reference, *lengths, p)]
    return pairs(*row)


def loss_and_gradient(name: str, strength: float, responses: ResponseValues) -> tuple[Tensor, Tensor, Tensor]:
    responses.policy.requires_grad_()
    loss = objective(name, strength, 0.7).loss(responses)
    (gradient,) = torch.autograd.grad(loss.sum(), responses.policy)
    return loss.detach(), responses.first(gradient), responses.second(gradient)


@pytest.mark.parametrize("name", PAIRWISE)
@timeless
@given(w=logp, l=logp, ref=st.tuples(logp, logp), n=st.tuples(length, length), b=beta, p=st.floats(0.5, 1, width=32))
def test_swapped_pair_with_the_opposite_label_is_the_same(
    name: str, w: float, l: float, ref: tuple[float, float], n: tuple[int, int], b: float, p: float  # noqa: E741
) -> None:  # fmt: skip
    """To the last bit, in value and gradient (1 - p is exact for p in [0.5, 1])."""
    loss, chosen, rejected = loss_and_gradient(name, b, pair(w, l, ref, n, p))
    swapped, as_chosen, as_rejected = loss_and_gradient(name, b, pair(l, w, ref[::-1], n[::-1], 1 - p))
    assert torch.equal(loss, swapped)
    assert torch.equal(chosen, as_rejected)
    assert torch.equal(rejected, as_chosen)


@pytest.mark.parametrize("name", PAIRWISE)
@timeless
@given(w=logp, l=logp, ref=st.tuples(logp, logp), n=st.tuples(length, length), b=beta)
def test_a_coin_flip_label_has_no_gradient(
    name: str, w: float, l: float, ref: tuple[float, float], n: tuple[int, int], b: float  # noqa: E741
) -> None:  # fmt: skip
    loss, chosen, rejected = loss_and_gradient(name, b, pair(w, l, ref, n, 0.5))
    assert chosen.item() == 0.0
    assert rejected.item() == 0.0
    constant = {"dpo": math.log(2), "ipo": (0.5 / b) ** 2, "slic": 1.0, "simpo": math.log1p(math.exp(0.7))}[name]
    assert loss.item() == pytest.approx(constant, rel=1e-6)


@pytest.mark.parametrize("name", PAIRWISE)
@timeless
@given(w=logp, l=logp, ref=st.tuples(logp, logp), n=st.tuples(length, length), b=beta)
def test_a_certain_label_is_the_plain_objective(
    name: str, w: float, l: float, ref: tuple[float, float], n: tuple[int, int], b: float  # noqa: E741
) -> None:  # fmt: skip
    """To the last bit of float32: the plain formula on the plain margin."""
    logps = pair(w, l, ref, n, 1.0)
    own = objective(name, b, 0.7)
    h = margin(own, logps)
    plain = {
        "dpo": lambda: -torch.nn.functional.logsigmoid(b * h),
        "ipo": lambda: (h - 1 / (2 * b)) ** 2,
        "slic": lambda: torch.clamp(1 - b * h, min=0),
        "simpo": lambda: -torch.nn.functional.logsigmoid(b * h - 0.7),
    }[name]()
    assert torch.equal(own.loss(logps), plain)


@pytest.mark.parametrize("name", ["dpo", "slic", "simpo"])
@timeless
@given(low=logp, high=logp, ref=logp, b=beta, p=st.floats(0.5, 1, width=32))
def test_a_larger_margin_never_costs_more(
    name: str, low: float, high: float, ref: float, b: float, p: float
) -> None:  # fmt: skip
    low, high = min(low, high), max(low, high)
    own = objective(name, b, 0.7)
    small = own.loss(pair(low, -50.0, (ref, -60.0), (10, 10), p))
    large = own.loss(pair(high, -50.0, (ref, -60.0), (10, 10), p))
    assert large.item() <= small.item()
    assert large.item() >= 0.0


@timeless
@given(b=beta, p=st.floats(0.55, 1), away=st.floats(0.01, 100))
def test_ipo_is_least_at_its_target_and_symmetric_about_it(b: float, p: float, away: float) -> None:
    """The target is h = 1 / (2 beta (2p - 1)), later for a less certain label."""
    target = 1 / (2 * b * (2 * p - 1))

    def loss(h: float) -> float:
        row = [torch.tensor([x], dtype=torch.float64) for x in (h, 0.0, 0.0, 0.0, 1.0, 1.0, p)]
        return IPO(b).loss(pairs(*row)).item()

    assert loss(target) == pytest.approx(0.0, abs=1e-20)
    assert loss(target + away) == pytest.approx((away * (2 * p - 1)) ** 2, rel=1e-6)
    assert loss(target - away) == pytest.approx(loss(target + away), rel=1e-6)


@pytest.mark.parametrize("name", PAIRWISE)
def test_no_pair_changes_another(name: str) -> None:
    """The loss of a pair is the same, to the last bit, alone and in a batch in another order."""
    generator = torch.Generator().manual_seed(0)
    rows = [-50 * torch.rand(8, generator=generator) for _ in range(4)]
    rows += [torch.randint(1, 9, (8,), generator=generator) for _ in range(2)] + [torch.rand(8, generator=generator)]
    own = objective(name, 0.2, 0.7)
    together = own.loss(pairs(*rows))
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    assert torch.equal(own.loss(pairs(*(row[order] for row in rows))), together[order])
    alone = torch.cat([own.loss(pairs(*(row[i : i + 1] for row in rows))) for i in range(8)])
    torch.testing.assert_close(alone, together, rtol=1e-6, atol=0)

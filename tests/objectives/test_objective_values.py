"""Hand-worked values, an independent float64 reference, step 0, and extremes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from seralign.config import ObjectiveConfig, ObjectiveName
from seralign.errors import ConfigError
from seralign.objectives import OBJECTIVES, LogProbs, Objective, ensemble_margin, get_objective, objective_from

PAIRWISE = ["dpo", "ipo", "slic", "simpo"]
BETA = {"dpo": 0.1, "ipo": 0.1, "slic": 0.1, "simpo": 2.0}


def one_pair(p: float = 1.0) -> LogProbs:
    """log pi = -10 over 5 tokens and -14 over 4; log pi_ref = -12 and -11: the example of every docstring."""
    w, l, ref_w, ref_l, n_w, n_l, label = torch.tensor([-10, -14, -12, -11, 5, 4, p], dtype=torch.float64).split(1)  # noqa: E741
    return LogProbs(w, l, ref_w, ref_l, n_w, n_l, label)


def batch(seed: int, size: int, scale: float, dtype: torch.dtype = torch.float64) -> LogProbs:
    generator = np.random.default_rng(seed)
    w, l, ref_w, ref_l = torch.tensor(-scale * generator.random((4, size)), dtype=dtype)  # noqa: E741
    n_w, n_l = torch.tensor(generator.integers(1, 50, (2, size)))
    return LogProbs(w, l, ref_w, ref_l, n_w, n_l, torch.tensor(generator.random(size), dtype=dtype))


def reference_loss(name: str, logps: LogProbs, beta: float, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Loss [N] and its derivative by the soft margin [N], in numpy and float64, from the papers' formulas."""
    w, l, ref_w, ref_l, n_w, n_l, p = (  # noqa: E741
        np.asarray(t.detach(), dtype=np.float64)
        for t in (
            logps.policy_chosen, logps.policy_rejected, logps.reference_chosen, logps.reference_rejected,
            logps.chosen_length, logps.rejected_length, logps.p,
        )
        if t is not None
    )  # fmt: skip
    h = w / n_w - l / n_l if name == "simpo" else (w - l) - (ref_w - ref_l)
    h = h * (p - (1 - p))
    if name == "ipo":
        return (h - 0.5 / beta) ** 2, 2 * (h - 0.5 / beta)
    if name == "slic":
        return np.maximum(0, 1 - beta * h), np.where(beta * h < 1, -beta, 0.0)
    z = beta * h - (gamma if name == "simpo" else 0.0)
    return np.logaddexp(0, -z), -beta * np.exp(-np.logaddexp(0, z))


@pytest.mark.parametrize(
    ("name", "p", "expected"),
    [
        ("dpo", 1.0, 0.474077),
        ("dpo", 0.8, 0.554355),
        ("ipo", 1.0, 0.0),
        ("ipo", 0.8, 4.0),
        ("slic", 1.0, 0.5),
        ("slic", 0.8, 0.7),
        ("simpo", 1.0, 0.126928),
        ("simpo", 0.8, 0.371101),
    ],
)
def test_worked_by_hand(name: str, p: float, expected: float) -> None:
    output = get_objective(name, BETA[name], gamma=1.0).loss(one_pair(p))
    assert output.loss.item() == pytest.approx(expected, abs=1e-6)
    # The metrics do not know of the label: margin 5 nats (1.5 nats a token for simpo), rewards beta * score.
    margin, chosen, rejected = (1.5, -4.0, -7.0) if name == "simpo" else (5.0, 0.2, -0.3)
    assert output.margin is not None
    assert output.rejected_reward is not None
    assert output.margin.item() == pytest.approx(margin)
    assert output.chosen_reward.item() == pytest.approx(chosen)
    assert output.rejected_reward.item() == pytest.approx(rejected)


def test_sft_worked_by_hand() -> None:
    chosen = torch.tensor([-10.0, -14.0], requires_grad=True)
    logps = LogProbs(chosen, None, None, None, torch.tensor([5, 3]), None, torch.ones(2))
    output = get_objective("sft", 1.0, 0.0).loss(logps)
    assert output.loss.tolist() == [10.0, 14.0]
    assert (output.loss.sum() / logps.chosen_length.sum()).item() == 3.0
    assert output.chosen_reward.tolist() == [-10.0, -14.0]
    assert output.margin is None
    assert output.rejected_reward is None
    (gradient,) = torch.autograd.grad(output.loss.sum(), chosen)
    assert gradient.tolist() == [-1.0, -1.0]


@pytest.mark.parametrize(("name", "expected"), [("dpo", math.log(2)), ("ipo", 25.0), ("slic", 1.0)])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_step_zero_is_exact(name: str, expected: float, size: int) -> None:
    """Policy = reference: the margin is 0 and the loss its value there, to the last bit of float32."""
    logps = -100 * torch.rand(size, generator=torch.Generator().manual_seed(0))
    rejected, lengths = 0.5 * logps, torch.full((size,), 7)
    output = get_objective(name, 0.1, 1.0).loss(
        LogProbs(logps, rejected, logps, rejected, lengths, lengths, torch.ones(size))
    )
    assert output.loss.dtype == torch.float32
    assert torch.equal(output.loss, torch.full((size,), expected))
    assert output.margin is not None
    assert torch.equal(output.margin, torch.zeros(size))


def test_simpo_at_margin_zero() -> None:
    """Equal mean log-probabilities over unequal lengths: log(1 + e^gamma), however likely the responses are."""
    n_w, n_l = torch.tensor([1, 2, 7, 64]), torch.tensor([4, 1, 5, 32])
    logps = LogProbs(-1.5 * n_w, -1.5 * n_l, None, None, n_w, n_l, torch.ones(4))
    output = get_objective("simpo", 2.0, 1.0).loss(logps)
    assert output.margin is not None
    assert torch.equal(output.margin, torch.zeros(4))
    torch.testing.assert_close(output.loss, torch.full((4,), 1.3132617), rtol=2e-7, atol=0)


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("scale", [5.0, 200.0])
def test_value_and_gradient_equal_reference(name: str, dtype: torch.dtype, rtol: float, scale: float) -> None:
    logps = batch(seed=3, size=500, scale=scale, dtype=dtype)
    assert logps.policy_rejected is not None
    assert logps.rejected_length is not None
    logps.policy_chosen.requires_grad_()
    logps.policy_rejected.requires_grad_()
    output = get_objective(name, BETA[name], 0.7).loss(logps)
    expected, slope = reference_loss(name, logps, BETA[name], 0.7)
    # atol: the rounding of h itself, a difference of numbers of size `scale`, times the slope of the loss.
    atol = 4 * scale * torch.finfo(dtype).eps * np.abs(slope).max()
    np.testing.assert_allclose(output.loss.detach(), expected, rtol=rtol, atol=atol)

    chosen, rejected = torch.autograd.grad(output.loss.sum(), (logps.policy_chosen, logps.policy_rejected))
    slope = slope * (2 * logps.p.double().numpy() - 1)
    lengths = logps.chosen_length.double().numpy(), logps.rejected_length.double().numpy()
    per_w, per_l = (1 / lengths[0], 1 / lengths[1]) if name == "simpo" else (1.0, 1.0)
    atol = 4 * scale * torch.finfo(dtype).eps
    np.testing.assert_allclose(chosen, slope * per_w, rtol=rtol, atol=atol)
    np.testing.assert_allclose(rejected, -slope * per_l, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", PAIRWISE)
def test_gradcheck(name: str) -> None:
    logps = batch(seed=5, size=6, scale=4.0)
    assert logps.policy_rejected is not None
    objective = get_objective(name, 0.4, 0.7)

    def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        return objective.loss(
            LogProbs(
                chosen, rejected, logps.reference_chosen, logps.reference_rejected, logps.chosen_length,
                logps.rejected_length, logps.p,
            )
        ).loss  # fmt: skip

    assert torch.autograd.gradcheck(
        loss, (logps.policy_chosen.requires_grad_(), logps.policy_rejected.requires_grad_()), atol=1e-7
    )


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("h", [-1e4, -1e3, 1e3, 1e4])
def test_extreme_margins_in_float32(name: str, h: float) -> None:
    """Neither overflow nor a lost tail: value and gradient stay those of float64."""
    zero, one = torch.zeros(1), torch.ones(1)
    policy = torch.tensor([h], requires_grad=True)
    logps = LogProbs(policy, zero, zero, zero, one, one, one)
    output = get_objective(name, BETA[name], 1.0).loss(logps)
    expected, slope = reference_loss(name, logps, BETA[name], 1.0)
    (gradient,) = torch.autograd.grad(output.loss.sum(), policy)
    assert torch.isfinite(output.loss).all()
    np.testing.assert_allclose(output.loss.detach(), expected, rtol=1e-6, atol=1e-37)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("name", PAIRWISE)
def test_metrics_carry_no_gradient(name: str) -> None:
    logps = batch(seed=1, size=3, scale=3.0)
    logps.policy_chosen.requires_grad_()
    output = get_objective(name, 0.1, 0.5).loss(logps)
    assert output.margin is not None
    assert output.rejected_reward is not None
    assert output.loss.requires_grad
    assert not any(t.requires_grad for t in (output.margin, output.chosen_reward, output.rejected_reward))


@pytest.mark.parametrize("name", PAIRWISE)
def test_score_is_the_reward_of_the_loss_for_tensors_arrays_and_numbers(name: str) -> None:
    """Scoring and training share one implicit reward: the loss's own margin comes out of ``score`` on numpy."""
    logps = batch(seed=2, size=50, scale=30.0)
    objective = get_objective(name, 0.3, 0.5)
    output = objective.loss(logps)
    fields = [logps.policy_chosen, logps.policy_rejected, logps.reference_chosen, logps.reference_rejected]
    w, l, ref_w, ref_l = (np.asarray(t) for t in fields)  # noqa: E741
    assert logps.rejected_length is not None
    n_w, n_l = logps.chosen_length.numpy(), logps.rejected_length.numpy()
    assert output.margin is not None
    assert np.array_equal(objective.score(w, ref_w, n_w) - objective.score(l, ref_l, n_l), output.margin.numpy())
    assert np.array_equal(0.3 * objective.score(w, ref_w, n_w), output.chosen_reward.numpy())
    number = objective.score(float(w[0]), float(ref_w[0]), float(n_w[0]))
    assert isinstance(number, float)
    assert number == objective.score(w, ref_w, n_w)[0]


def test_what_each_objective_reads() -> None:
    def reads(name: str) -> tuple[bool, bool, str]:
        objective = get_objective(name, 0.1, 1.0)
        return objective.uses_reference, objective.uses_rejected, objective.unit

    assert {name: reads(name) for name in OBJECTIVES} == {
        "dpo": (True, True, "pair"),
        "ipo": (True, True, "pair"),
        "slic": (True, True, "pair"),
        "simpo": (False, True, "pair"),
        "sft": (False, False, "token"),
    }


def test_simpo_runs_without_reference_and_dpo_refuses() -> None:
    logps = replace(one_pair(), reference_chosen=None, reference_rejected=None)
    assert get_objective("simpo", 2.0, 1.0).loss(logps).loss.item() == pytest.approx(0.126928, abs=1e-6)
    with pytest.raises(ValueError, match="needs the reference's log-probabilities"):
        get_objective("dpo", 0.1, 0.0).loss(logps)


def test_registry_and_configuration_name_the_same_objectives() -> None:
    assert list(OBJECTIVES) == list(get_args(ObjectiveName))
    for name in get_args(ObjectiveName):
        objective: Objective = objective_from(ObjectiveConfig(name=name))
        assert objective.name == name
        assert objective.beta == ObjectiveConfig(name=name).resolved_beta


def test_configured_beta_and_gamma_reach_the_loss() -> None:
    simpo = objective_from(ObjectiveConfig(name="simpo", beta=4.0, gamma=2.0))
    assert simpo.loss(one_pair()).loss.item() == pytest.approx(math.log1p(math.exp(2.0 - 4.0 * 1.5)))
    dpo = objective_from(ObjectiveConfig(name="dpo", beta=0.5))
    assert dpo.loss(one_pair()).loss.item() == pytest.approx(math.log1p(math.exp(-0.5 * 5)))


def test_unknown_name_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"^objective.name must be one of dpo, ipo, slic, simpo, sft, got 'dop'$"):
        get_objective("dop", 0.1, 0.0)


def test_shapes_that_would_broadcast_are_refused() -> None:
    column, row = torch.zeros(3, 1), torch.zeros(3)
    with pytest.raises(ValueError, match="policy_chosen must have shape"):
        LogProbs(column, column, None, None, column, column, column)
    with pytest.raises(ValueError, match=r"reference_chosen must have the shape of policy_chosen, \[3\], got \[3, 1\]"):
        LogProbs(row, row, column, row, row, row, row)
    with pytest.raises(ValueError, match=r"p must have the shape of policy_chosen, \[3\], got \[1\]"):
        LogProbs(row, row, None, None, row, row, torch.ones(1))


def test_half_precision_sums_are_refused() -> None:
    row, half = torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"policy_rejected must be float32 or float64, got torch.bfloat16"):
        LogProbs(row, half, None, None, row, row, row)


def test_ensemble_margin() -> None:
    assert ensemble_margin(2.0, -1.0, 0.3) == pytest.approx(1.1)
    h1, h2 = np.array([2.0, 0.1, -3.0]), np.array([-1.0, 0.7, 5.0])
    np.testing.assert_allclose(ensemble_margin(h1, h2, 0.3), [1.1, 0.28, -0.6], rtol=1e-14)
    assert np.array_equal(ensemble_margin(h1, h2, 0.0), h1)
    assert np.array_equal(ensemble_margin(h1, h2, 1.0), h2)
    assert ensemble_margin(h1, None, 0.3) is h1
    assert torch.equal(
        ensemble_margin(torch.from_numpy(h1), torch.from_numpy(h2), 0.3),
        torch.from_numpy(ensemble_margin(h1, h2, 0.3)),
    )

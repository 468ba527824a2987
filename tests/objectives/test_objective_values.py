"""Hand-worked values, an independent float64 reference, step 0, and extremes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from objective_pairs import PAIRWISE, margin, objective, pairs
from torch import Tensor

from seralign.config import load_config, to_dict
from seralign.errors import ConfigError
from seralign.objectives import DPO, IPO, OBJECTIVES, SFT, ResponseValues, SimPO, SLiC
from seralign.objectives.base import head_of

REWARD_MODELS = ("reward", "reward_ranking", "reward_scores")
BETA = {"dpo": 0.1, "ipo": 0.1, "slic": 0.1, "simpo": 2.0}


def one_pair(p: float = 1.0) -> ResponseValues:
    """log pi = -10 over 5 tokens and -14 over 4; log pi_ref = -12 and -11: the example of every docstring."""
    return pairs(*torch.tensor([-10, -14, -12, -11, 5, 4, p], dtype=torch.float64).split(1))


def batch(seed: int, size: int, scale: float, dtype: torch.dtype = torch.float64) -> ResponseValues:
    generator = np.random.default_rng(seed)
    w, l, ref_w, ref_l = torch.tensor(-scale * generator.random((4, size)), dtype=dtype)  # noqa: E741
    n_w, n_l = torch.tensor(generator.integers(1, 50, (2, size)))
    return pairs(w, l, ref_w, ref_l, n_w, n_l, torch.tensor(generator.random(size), dtype=dtype))


def reference_loss(
    name: str, responses: ResponseValues, beta: float, target_margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Loss [N] and its derivative by the soft margin [N], in numpy and float64, from the papers' formulas."""
    assert responses.reference is not None
    fields = (responses.policy, responses.reference, responses.lengths)
    (w, l), (ref_w, ref_l), (n_w, n_l) = (  # noqa: E741
        np.asarray(field.detach(), dtype=np.float64).reshape(2, -1) for field in fields
    )
    p = np.asarray(responses.preference[: responses.examples], dtype=np.float64)
    h = w / n_w - l / n_l if name == "simpo" else (w - l) - (ref_w - ref_l)
    h = h * (p - (1 - p))
    if name == "ipo":
        return (h - 0.5 / beta) ** 2, 2 * (h - 0.5 / beta)
    if name == "slic":
        return np.maximum(0, 1 - beta * h), np.where(beta * h < 1, -beta, 0.0)
    z = beta * h - (target_margin if name == "simpo" else 0.0)
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
    responses, own = one_pair(p), objective(name, BETA[name], 1.0)
    assert own.loss(responses).item() == pytest.approx(expected, abs=1e-6)
    # The margin does not know of the label: 5 nats, 1.5 nats a token for simpo.
    assert margin(own, responses).item() == pytest.approx(1.5 if name == "simpo" else 5.0)


def test_sft_worked_by_hand() -> None:
    chosen = torch.tensor([-10.0, -14.0], requires_grad=True)
    lengths = torch.tensor([5, 3])
    loss = SFT().loss(ResponseValues(chosen, None, lengths, torch.arange(2), torch.ones(2), 2))
    assert loss.tolist() == [10.0, 14.0]
    assert (loss.sum() / lengths.sum()).item() == 3.0
    (gradient,) = torch.autograd.grad(loss.sum(), chosen)
    assert gradient.tolist() == [-1.0, -1.0]


def test_sft_reads_the_first_response_of_a_pair_alone() -> None:
    assert SFT().loss(one_pair()).tolist() == [10.0]


@pytest.mark.parametrize(("name", "expected"), [("dpo", math.log(2)), ("ipo", 25.0), ("slic", 1.0)])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_step_zero_is_exact(name: str, expected: float, size: int) -> None:
    """Policy = reference: the margin is 0 and the loss its value there, to the last bit of float32."""
    logps = -100 * torch.rand(size, generator=torch.Generator().manual_seed(0))
    rejected, lengths = 0.5 * logps, torch.full((size,), 7)
    responses = pairs(logps, rejected, logps, rejected, lengths, lengths, torch.ones(size))
    loss = objective(name, 0.1).loss(responses)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, torch.full((size,), expected))
    assert torch.equal(margin(objective(name, 0.1), responses), torch.zeros(size))


def test_simpo_at_margin_zero() -> None:
    """Equal mean log-probabilities over unequal lengths: log(1 + e^gamma), however likely the responses are."""
    n_w, n_l = torch.tensor([1, 2, 7, 64]), torch.tensor([4, 1, 5, 32])
    responses = pairs(-1.5 * n_w, -1.5 * n_l, None, None, n_w, n_l, torch.ones(4))
    assert torch.equal(margin(SimPO(2.0, 1.0), responses), torch.zeros(4))
    torch.testing.assert_close(SimPO(2.0, 1.0).loss(responses), torch.full((4,), 1.3132617), rtol=2e-7, atol=0)


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("scale", [5.0, 200.0])
def test_value_and_gradient_equal_reference(name: str, dtype: torch.dtype, rtol: float, scale: float) -> None:
    responses = batch(seed=3, size=500, scale=scale, dtype=dtype)
    responses.policy.requires_grad_()
    loss = objective(name, BETA[name], 0.7).loss(responses)
    expected, slope = reference_loss(name, responses, BETA[name], 0.7)
    # atol: the rounding of h itself, a difference of numbers of size `scale`, times the slope of the loss.
    atol = 4 * scale * torch.finfo(dtype).eps * np.abs(slope).max()
    np.testing.assert_allclose(loss.detach(), expected, rtol=rtol, atol=atol)

    (gradient,) = torch.autograd.grad(loss.sum(), responses.policy)
    chosen, rejected = gradient.view(2, -1)
    slope = slope * (2 * responses.preference[:500].double().numpy() - 1)
    per_w, per_l = 1 / responses.lengths.double().numpy().reshape(2, -1) if name == "simpo" else (1.0, 1.0)
    atol = 4 * scale * torch.finfo(dtype).eps
    np.testing.assert_allclose(chosen, slope * per_w, rtol=rtol, atol=atol)
    np.testing.assert_allclose(rejected, -slope * per_l, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", PAIRWISE)
def test_gradcheck(name: str) -> None:
    responses = batch(seed=5, size=6, scale=4.0)
    own = objective(name, 0.4, 0.7)

    def loss(policy: Tensor) -> Tensor:
        return own.loss(replace(responses, policy=policy))

    assert torch.autograd.gradcheck(loss, (responses.policy.requires_grad_(),), atol=1e-7)


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("h", [-1e4, -1e3, 1e3, 1e4])
def test_extreme_margins_in_float32(name: str, h: float) -> None:
    """Neither overflow nor a lost tail: value and gradient stay those of float64."""
    zero, one = torch.zeros(1), torch.ones(1)
    policy = torch.tensor([h], requires_grad=True)
    responses = pairs(policy, zero, zero, zero, one, one, one)
    loss = objective(name, BETA[name], 1.0).loss(responses)
    expected, slope = reference_loss(name, responses, BETA[name], 1.0)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    assert torch.isfinite(loss).all()
    np.testing.assert_allclose(loss.detach(), expected, rtol=1e-6, atol=1e-37)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("name", PAIRWISE)
def test_reward_takes_tensors_arrays_and_numbers(name: str) -> None:
    """Scoring and training share one implicit reward, to the last bit."""
    responses, own = batch(seed=2, size=50, scale=30.0), objective(name, 0.3, 0.5)
    tensors = (responses.policy, responses.reference, responses.lengths)
    arrays = [np.asarray(tensor) for tensor in tensors]
    assert np.array_equal(own.reward(*arrays), own.reward(*tensors).numpy())
    number = own.reward(float(arrays[0][0]), float(arrays[1][0]), float(arrays[2][0]))
    assert isinstance(number, float)
    assert number == own.reward(*arrays)[0]


def test_what_each_objective_reads() -> None:
    found = {name: (each.uses_reference, each.reads, each.unit) for name, each in OBJECTIVES.items()}
    without = ("simpo", "alpha_po", "cpo", "orpo", "slic_hf", "unlikelihood", "tpo", "tpo_l", *REWARD_MODELS)
    assert {name for name, read in found.items() if read == (False, "all", "example")} == set(without)
    assert found["nll"] == (False, "first", "example")
    assert found["sft"] == (False, "first", "token")
    others = [read for name, read in found.items() if name not in (*without, "nll", "sft")]
    assert set(others) == {(True, "all", "example")}
    forms = {name: set(each.forms) for name, each in OBJECTIVES.items()}
    assert {name: own for name, own in forms.items() if own != {"pair"}} == {
        "plackett_luce": {"ranking"}, "tpo": {"ranking"}, "tpo_l": {"ranking"}, "kto": {"label"},
        "bco": {"pair", "label"}, "aihf": {"pair", "demonstration"},
        "reward_ranking": {"ranking"}, "reward_scores": {"scores"}, "abr": {"scores"},
        "nll": {"pair", "ranking", "demonstration"}, "sft": {"pair", "ranking", "demonstration"},
    }  # fmt: skip


def test_simpo_runs_without_reference_and_dpo_refuses() -> None:
    responses = replace(one_pair(), reference=None)
    assert SimPO(2.0, 1.0).loss(responses).item() == pytest.approx(0.126928, abs=1e-6)
    with pytest.raises(ValueError, match="needs the reference's log-probabilities"):
        DPO().loss(responses)


def test_every_objective_is_configured_by_its_name() -> None:
    for name, kind in OBJECTIVES.items():
        rounds = {"rounds": 1} if kind.reads == "first" or "pair" not in kind.forms else {}
        if head_of(kind()) == "reward":
            rounds = {"rounds": 1, "evaluation": {"prompts": 0, "token_pairs": 0}}
        config = load_config(None, {"out": "x", "world": {}, "objective.name": name, **rounds})
        assert config.objective.name == name
        assert config.objective.primary == kind()


def test_settings_reach_the_loss() -> None:
    values = {"out": "x", "world": {}, "objective": {"name": "simpo", "beta": 4, "target_margin": 2}}
    config = load_config(None, values)
    assert config.objective.primary == SimPO(4.0, 2.0)
    expected = math.log1p(math.exp(2.0 - 4.0 * 1.5))
    assert config.objective.primary.loss(one_pair()).item() == pytest.approx(expected)
    assert load_config(None, to_dict(config)) == config
    assert DPO(0.5).loss(one_pair()).item() == pytest.approx(math.log1p(math.exp(-0.5 * 5)))
    assert {type(IPO()), type(SLiC())} == {IPO, SLiC}


def test_a_list_is_a_weighted_sum() -> None:
    terms = [{"name": "dpo", "beta": 0.2}, {"name": "sft", "weight": 0.5}]
    config = load_config(None, {"out": "x", "world": {}, "objective": terms})
    found = config.objective
    assert found.name == "dpo + 0.5 sft"
    assert (found.reads, found.compares, found.uses_reference, found.primary) == ("all", True, True, DPO(0.2))
    assert load_config(None, to_dict(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "dop"},
            rf"objective\.name must be one of {', '.join(OBJECTIVES)}, or module:Class .* got 'dop'",
        ),
        (
            {"target_margin": 1.0},
            r"objective\.target_margin is not a setting of dpo; its settings are beta, soft_labels; remove it",
        ),
        ({"name": "sft", "beta": 1.0}, r"objective\.beta is not a setting of sft, which has no settings; remove it"),
        ({"gamma": 1.0}, r"objective\.gamma: unknown key; the gamma of simpo is objective\.target_margin"),
        ({"beta": 0.0}, r"objective\.beta must be greater than 0, got 0\.0"),
        ({"beta": "0.1"}, r"objective\.beta must be a number, got '0\.1'; remove the quotes"),
        ({"weight": 0}, r"objective\.weight must be a number above 0 and at most 1e6, got 0\.0"),
        ([], r"objective: expected a section with keys and values, or a list of sections, got \[\]"),
        ([{"name": "dpo"}, {"name": "sft", "beta": 2}], r"objective\[1\]\.beta is not a setting of sft"),
        ("dpo", r"objective: expected a section with keys and values, got 'dpo'; did you mean objective\.name\?"),
        ({"name": "nowhere:Loss"}, r"objective\.name: cannot import 'nowhere': No module named 'nowhere'"),
        (
            {"name": "math:pow"},
            r"objective\.name: 'math:pow' must be a dataclass with the members of Objective; missing: beta",
        ),
    ],
)
def test_what_cannot_be_honoured_names_the_key(values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        load_config(None, {"out": "x", "world": {}, "objective": values})


def test_a_class_of_ones_own_by_dotted_path() -> None:
    values = {"name": "own_objective:Squared", "beta": 0.3}
    config = load_config(None, {"out": "x", "world": {}, "objective": values})
    assert config.objective.primary.beta == 0.3
    assert config.objective.primary.loss(one_pair()).item() == pytest.approx((1 - 0.3 * 5) ** 2)
    assert to_dict(config)["objective"] == values | {"weight": 1.0}


def test_shapes_that_would_broadcast_are_refused() -> None:
    column, row, example = torch.zeros(3, 1), torch.zeros(4), torch.arange(2).repeat(2)
    with pytest.raises(ValueError, match=r"policy must have shape \[R\], got \[3, 1\]"):
        ResponseValues(column, None, column, column, column, 3)
    with pytest.raises(ValueError, match=r"reference must have the shape of policy, \[4\], got \[3, 1\]"):
        ResponseValues(row, column, row, example, row, 2)
    with pytest.raises(ValueError, match=r"preference must have the shape of policy, \[4\], got \[1\]"):
        ResponseValues(row, None, row, example, torch.ones(1), 2)
    with pytest.raises(ValueError, match="5 examples need a response each, got 4"):
        ResponseValues(row, None, row, example, row, 5)
    with pytest.raises(ValueError, match="3 pairs have 6 responses, got 4"):
        DPO().loss(ResponseValues(row, row, row, example, row, 3))


def test_half_precision_sums_are_refused() -> None:
    row, half = torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"policy must be float32 or float64, got torch.bfloat16"):
        ResponseValues(half, None, row, row, row, 1)

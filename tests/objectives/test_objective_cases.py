"""Every objective of pairs: hand-worked values, an independent implementation, soft labels, and extremes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from objective_cases import CASES, Case, Sides
from objective_pairs import pairs
from torch import Tensor

from seralign.config import load_config, to_dict
from seralign.config.objective import read_objective
from seralign.errors import ConfigError
from seralign.objectives import NLL, OBJECTIVES, Objective, ResponseValues
from seralign.objectives.base import needs_of
from seralign.objectives.pairs import margin, reward_sides

each = pytest.mark.parametrize("case", CASES, ids=[case.label for case in CASES])
Row = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def random_rows(scale: float, size: int = 64, dtype: torch.dtype = torch.float64, seed: int = 0) -> Row:
    """Both policies, references and lengths [N], and p [N]; log-ratios of about ``scale`` nats."""
    generator = np.random.default_rng(seed)
    lengths = torch.tensor(generator.integers(1, 40, (2, size)), dtype=dtype)
    reference = -lengths * torch.tensor(0.2 + 2 * generator.random((2, size)), dtype=dtype)
    policy = torch.minimum(
        reference + scale * torch.tensor(generator.normal(size=(2, size)), dtype=dtype), -0.05 * lengths
    )
    p = torch.tensor(generator.random(size), dtype=dtype)
    return policy[0], policy[1], reference[0], reference[1], lengths[0], lengths[1], p


def of_case(case: Case, row: Any) -> ResponseValues:
    return replace(pairs(*row), state=case.state)


def gradients(objective: Objective, row: Row, state: tuple[float, ...] = ()) -> tuple[Tensor, Tensor, Tensor]:
    responses = replace(pairs(*row), state=state)
    responses.policy.requires_grad_()
    loss = objective.loss(responses)
    (gradient,) = torch.autograd.grad(loss.sum(), responses.policy)
    return loss.detach(), responses.first(gradient), responses.second(gradient)


def expected(case: Case, row: Row) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and gradient by the second implementation, in float64."""
    policy_w, policy_l, *others, p = (value.detach().double() for value in row)
    policy_w.requires_grad_(), policy_l.requires_grad_()
    ref_w, ref_l, n_w, n_l = others
    loss = case.loss(Sides(policy_w, ref_w, n_w), Sides(policy_l, ref_l, n_l), p)
    of_w, of_l = torch.autograd.grad(loss.sum(), (policy_w, policy_l), allow_unused=True)
    return loss.detach(), of_w, of_l


def swapped(row: Row) -> Row:
    w, l, ref_w, ref_l, n_w, n_l, p = row  # noqa: E741
    return l, w, ref_l, ref_w, n_l, n_w, 1 - p


def test_every_objective_of_pairs_has_a_case() -> None:
    """Those that read a whole step, or tokens, have tests of their own."""
    of_pairs = {name for name, kind in OBJECTIVES.items() if kind.reads == "all" and "pair" in kind.forms}
    others = {name for name in of_pairs if {"step", "tokens"} & needs_of(OBJECTIVES[name]())}
    assert {case.name for case in CASES} == of_pairs - others
    for name in of_pairs - others:
        forms = {case.settings.get("soft_labels", "geometric") for case in CASES if case.name == name}
        if "soft_labels" in OBJECTIVES[name].__dataclass_fields__:  # type: ignore[attr-defined]
            assert forms == {"geometric", "conservative"}, name


@each
def test_worked_by_hand(case: Case) -> None:
    for p, value in zip((1.0, 0.8), case.hand, strict=True):
        row = torch.tensor([-10, -14, -12, -11, 5, 4, p], dtype=torch.float64).split(1)
        assert case.objective.loss(of_case(case, row)).item() == pytest.approx(value, abs=1.5e-6)


@each
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_value_and_gradient_are_those_of_the_paper(case: Case, scale: float) -> None:
    row = random_rows(scale)
    found, reference = gradients(case.objective, row, case.state), expected(case, row)
    for own, theirs in zip(found, reference, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-9, atol=1e-11)
    assert float(found[1].abs().max()) > 0


@each
def test_float32_is_near_float64(case: Case) -> None:
    row = random_rows(5.0, dtype=torch.float32)
    for own, theirs in zip(gradients(case.objective, row, case.state), expected(case, row), strict=True):
        assert own.dtype == torch.float32
        torch.testing.assert_close(own.double(), theirs, rtol=3e-4, atol=2e-5 * float(1 + theirs.abs().max()))


@each
def test_the_swapped_pair_with_the_opposite_label_is_the_same(case: Case) -> None:
    row = random_rows(8.0, seed=1)
    loss, of_w, of_l = gradients(case.objective, row, case.state)
    again, as_w, as_l = gradients(case.objective, swapped(row), case.state)
    for own, other in ((loss, again), (of_w, as_l), (of_l, as_w)):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)


@each
def test_a_certain_label_is_the_hard_loss(case: Case) -> None:
    """To the last bit: both forms of a soft label agree where the label is certain."""
    *row, p = random_rows(8.0, seed=2)
    hard: Row = (*row, torch.ones_like(p))  # type: ignore[assignment]
    loss, of_w, of_l = gradients(case.objective, hard, case.state)
    if "soft_labels" in case.settings:
        for form in ("geometric", "conservative"):
            other = OBJECTIVES[case.name](**case.settings | {"soft_labels": form})
            for own, theirs in zip((loss, of_w, of_l), gradients(other, hard), strict=True):
                assert torch.equal(own, theirs)
    if case.hard is not None:
        w, l, ref_w, ref_l, n_w, n_l = row  # noqa: E741
        torch.testing.assert_close(loss, case.hard(Sides(w, ref_w, n_w), Sides(l, ref_l, n_l)), rtol=1e-9, atol=1e-11)


@each
def test_a_coin_flip(case: Case) -> None:
    """A geometric label has no gradient; with another form, the two responses are alike."""
    *row, p = random_rows(8.0, seed=3)
    half: Row = (*row, torch.full_like(p, 0.5))  # type: ignore[assignment]
    loss, of_w, of_l = gradients(case.objective, half, case.state)
    again, as_w, as_l = gradients(case.objective, swapped(half), case.state)
    torch.testing.assert_close(loss, again)
    torch.testing.assert_close(of_w, as_l)
    torch.testing.assert_close(of_l, as_w)
    geometric = case.margin is not None and case.settings["soft_labels"] == "geometric"
    if geometric or case.label == "wpo beta=0.1 alignment=none":
        assert not of_w.any()
        assert not of_l.any()


@each
@pytest.mark.parametrize("ratio", [-2000.0, -300.0, 300.0, 2000.0])
def test_extremes_are_finite(case: Case, ratio: float) -> None:
    """In float32, with log-ratios and log-probabilities far out on either side, one or both."""
    for w, l in ((ratio, 0.0), (0.0, ratio), (ratio, ratio), (ratio, -ratio)):  # noqa: E741
        reference = -2500.0 - abs(ratio)
        values = (reference + w, reference + l, reference, reference, 30.0, 50.0)
        for p in (1.0, 0.7):
            row: Any = [torch.tensor([value]) for value in (*values, p)]
            for found in gradients(case.objective, row, case.state):
                assert torch.isfinite(found).all(), (w, l, p)


@each
def test_no_pair_changes_another(case: Case) -> None:
    row = random_rows(5.0, size=8, dtype=torch.float32)
    together = case.objective.loss(of_case(case, row))
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    assert torch.equal(case.objective.loss(of_case(case, [value[order] for value in row])), together[order])


@each
def test_the_reward_takes_tensors_arrays_and_numbers(case: Case) -> None:
    """Scoring and training share one implicit reward, to the last bit; the margin is what the loss scales."""
    responses, own = pairs(*random_rows(5.0, size=10)), case.objective
    tensors = (responses.policy, responses.reference, responses.lengths)
    arrays: list[Any] = [np.asarray(tensor) for tensor in tensors]
    found = own.reward(*arrays)
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, own.reward(*tensors).numpy())
    for at in range(10):
        number = own.reward(*(float(array[at]) for array in arrays))
        assert isinstance(number, float)
        assert number == found[at]
    chosen, rejected = reward_sides(own, responses)
    assert torch.equal(chosen, own.reward(*tensors)[:10])
    assert torch.equal(margin(own, responses), chosen - rejected)


@each
def test_settings_go_through_a_configuration(case: Case) -> None:
    values = {"out": "x", "world": {}, "objective": {"name": case.name} | case.settings}
    if case.name == "reward":
        values |= {"rounds": 1, "evaluation": {"prompts": 0, "token_pairs": 0}}
    config = load_config(None, values)
    assert config.objective.primary == case.objective
    assert load_config(None, to_dict(config)) == config


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("cdpo", {"label_smoothing": 0.5}, "label_smoothing must be at least 0 and below 0.5, got 0.5"),
        ("robust", {"label_smoothing": -0.1}, "label_smoothing must be at least 0 and below 0.5, got -0.1"),
        ("exo", {"label_smoothing": 0.0}, "label_smoothing must be above 0 and below 0.5, got 0.0"),
        ("dpo", {"soft_labels": "soft"}, "soft_labels must be one of geometric, conservative, got 'soft'"),
        ("nca", {"soft_labels": "geometric"}, "soft_labels is not a setting of nca; its settings are beta; remove it"),
        ("discopop", {"tau": 1.0}, "tau must be above 0 and below 1, or the loss grows without bound, got 1.0"),
        ("f_dpo", {"divergence": "kl"}, "divergence must be one of reverse_kl, forward_kl, js, alpha, got 'kl'"),
        ("f_dpo", {"alpha": 1.0}, "alpha must be above 0 and below 1, got 1.0"),
        ("alpha_po", {"alpha": 11.0}, "alpha must be at most 10 in size, got 11.0"),
        ("irepo", {"clip": 0.0}, "clip must be above 0 and below 0.5, got 0.0"),
        ("dpop", {"penalty": -1.0}, "penalty must be at least 0 and at most 1e6, got -1.0"),
        ("r_dpo", {"alpha": -0.1}, "alpha must be at least 0 and at most 1e6, got -0.1"),
        ("orpo", {"odds_weight": 0.0}, "odds_weight must be greater than 0, got 0.0"),
        ("orpo", {"beta": 0.1}, "beta is not a setting of orpo; its settings are odds_weight; remove it"),
        ("cpo", {"nll_weight": -1.0}, "nll_weight must be at least 0 and at most 1e6, got -1.0"),
        ("unlikelihood", {"rejected_weight": 2.0}, "rejected_weight must be from 0 to 1, got 2.0"),
        ("slic_hf", {"target_margin": 1e7}, "target_margin must be at most 1e6 in size, got 10000000.0"),
    ],
)
def test_what_a_setting_may_not_be(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_objective({"name": name} | settings)
    assert str(caught.value) == f"objective.{says}"


def test_alpha_po_tends_to_simpo() -> None:
    row = random_rows(5.0)
    limit = OBJECTIVES["alpha_po"](beta=2.0, target_margin=1.0, alpha=0.0).loss(pairs(*row))
    near = OBJECTIVES["alpha_po"](beta=2.0, target_margin=1.0, alpha=1e-7).loss(pairs(*row))
    assert torch.equal(limit, OBJECTIVES["simpo"](2.0, 1.0).loss(pairs(*row)))
    torch.testing.assert_close(near, limit, rtol=1e-5, atol=1e-6)


def test_the_first_term_of_rpo_is_the_mean_over_each_response() -> None:
    responses = pairs(*torch.tensor([-10, -14, -12, -11, 5, 4, 0.8], dtype=torch.float64).split(1))
    assert NLL().loss(responses).tolist() == [2.0]
    objective = read_objective([{"name": "dpo"}, {"name": "nll", "weight": 0.5}])
    assert objective.name == "dpo + 0.5 nll"
    assert objective.reads == "all"


def test_irepo_is_least_at_the_margin_of_the_label() -> None:
    row = [torch.tensor([value], dtype=torch.float64) for value in (math.log(4) / 0.1, 0.0, 0.0, 0.0, 1.0, 1.0, 0.8)]
    responses: ResponseValues = pairs(*row)
    assert OBJECTIVES["irepo"](beta=0.1).loss(responses).item() == pytest.approx(0.0, abs=1e-24)

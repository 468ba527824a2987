"""Adaptive behavior regularization: worked by hand, once more in plain Python, its two ends, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seralign.config import load_config
from seralign.errors import ConfigError
from seralign.objectives import ABR, ResponseValues

Response = tuple[float, float, float, float]  # log pi, log pi_ref, tokens, score
BY_HAND: list[Response] = [(-10.0, -12.0, 5.0, 2.0), (-14.0, -11.0, 4.0, 1.0)]


def examples(rows: list[list[Response]], dtype: torch.dtype = torch.float64) -> ResponseValues:
    """First responses of all examples, then the second ones, and so on."""
    at = sorted((place, row) for row, own in enumerate(rows) for place in range(len(own)))
    values = torch.tensor([rows[row][place] for place, row in at], dtype=dtype)
    policy, reference, lengths, scores = values.unbind(1)
    return ResponseValues(policy.clone().requires_grad_(), reference, lengths, torch.tensor([row for _, row in at]),
                          scores, len(rows))  # fmt: skip


def plainly(row: list[Response], policy: list[float], objective: ABR) -> float:
    """The loss with ``math`` alone."""
    rewards = [objective.beta * (own - other) for own, (_, other, _, _) in zip(policy, row, strict=True)]
    level = max(rewards)
    whole = level + math.log(sum(math.exp(reward - level) for reward in rewards))
    best = max(score for *_, score in row)
    wanted = [math.exp((score - best) / objective.temperature) for *_, score in row]
    total = 0.0
    for reward, share, own, (_, other, tokens, _) in zip(rewards, wanted, policy, row, strict=True):
        support = math.exp(other / tokens)
        c = support / (support + objective.regularization)
        total += c * share / sum(wanted) * (whole - reward) - (1 - c) * own / tokens / len(row)
    return total


def test_by_hand() -> None:
    assert ABR(regularization=0.1).loss(examples([BY_HAND])).item() == pytest.approx(1.858894, abs=1e-6)
    # The improvement alone is DPO with the conservative label p = 0.731059.
    alone = 0.731059 * 0.474077 + 0.268941 * 0.974077
    assert ABR(regularization=0.0).loss(examples([BY_HAND])).item() == pytest.approx(alone, abs=1e-6)
    # Cloning alone: (2 + 3.5) / 2.
    assert ABR(regularization=1e9).loss(examples([BY_HAND])).item() == pytest.approx(2.75, abs=1e-6)


lengths = st.integers(1, 30).map(float)
responses = st.tuples(st.floats(-60, -0.1), st.floats(-60, -0.1), lengths, st.floats(-5, 5))
rows = st.lists(st.lists(responses, min_size=1, max_size=5), min_size=1, max_size=4)


@given(rows, st.sampled_from([0.01, 0.1, 3.0]), st.sampled_from([0.5, 4.0]))
def test_value_and_gradient_are_those_of_the_formula(
    drawn: list[list[Response]], regularization: float, temperature: float
) -> None:
    objective = ABR(0.2, regularization, temperature)
    given_values = examples(drawn)
    losses = objective.loss(given_values)
    policies = [[own for own, *_ in row] for row in drawn]
    wanted = [plainly(row, own, objective) for row, own in zip(drawn, policies, strict=True)]
    assert losses.tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    (found,) = torch.autograd.grad(losses.sum(), given_values.policy)
    at = sorted((place, row) for row, own in enumerate(drawn) for place in range(len(own)))
    for value, (place, row) in zip(found.tolist(), at, strict=True):
        step = 1e-5
        ends = []
        for sign in (1, -1):
            moved = list(policies[row])
            moved[place] += sign * step
            ends.append(plainly(drawn[row], moved, objective))
        assert value == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-6)


def test_the_less_supported_response_is_cloned_more() -> None:
    """Both have the same score and the same log-ratio; the reference writes the second less readily."""
    values = examples([[(-5.0, -5.0, 10.0, 0.0), (-40.0, -40.0, 10.0, 0.0)]])
    (found,) = torch.autograd.grad(ABR(regularization=0.1).loss(values).sum(), values.policy)
    assert found[1] < found[0] < 0


def test_a_constant_added_to_all_scores_changes_nothing() -> None:
    moved = [(own, other, tokens, score + 7.0) for own, other, tokens, score in BY_HAND]
    (found,), (wanted,) = (
        ABR(regularization=0.1).loss(examples([moved])).tolist(),
        ABR(regularization=0.1).loss(examples([BY_HAND])).tolist(),
    )
    assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("ratio", [-2000.0, 2000.0])
def test_extremes_are_finite(ratio: float) -> None:
    row = [(-3000.0 + ratio, -3000.0, 20.0, 1000.0), (-10.0, -10.0, 1.0, -1000.0)]
    values = examples([row], torch.float32)
    losses = ABR(regularization=0.0).loss(values) + ABR(regularization=0.1).loss(values)
    (found,) = torch.autograd.grad(losses.sum(), values.policy)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("regularization", -0.1, "objective.regularization must be at least 0, got -0.1"),
        ("temperature", 0.0, "objective.temperature must be greater than 0, got 0.0"),
        ("beta", 0.0, "objective.beta must be greater than 0, got 0.0"),
    ],
)
def test_wrong_settings(key: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, {"out": "x", "world": {}, "objective": {"name": "abr", key: value}})

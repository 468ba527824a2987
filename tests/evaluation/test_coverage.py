"""How often 95% intervals hold the truth, by simulation; docs/statistics.md has the table that this prints."""

from collections.abc import Callable

import numpy as np
import pytest

from seralign.evaluation.bootstrap import cluster_bootstrap, weighted_mean
from seralign.evaluation.difficulty import Outcomes, length_term
from seralign.evaluation.length_control import length_control
from seralign.evaluation.rating import ratings
from seralign.intervals import Interval, share_interval

Ends = dict[str, tuple[float, float]]


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def chance(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def coverage(name: str, truth: float, times: int, draw: Callable[[int], Ends]) -> dict[str, float]:
    """The share of simulations whose interval holds the truth, by the kind of interval; printed."""
    drawn = [draw(seed) for seed in range(times)]
    held = {
        kind: float(np.mean([one[kind][0] - 1e-12 <= truth <= one[kind][1] + 1e-12 for one in drawn]))
        for kind in drawn[0]
    }
    width = {kind: float(np.mean([one[kind][1] - one[kind][0] for one in drawn])) for kind in drawn[0]}
    print(f"{name}: " + ", ".join(f"{kind} {100 * held[kind]:.1f}% (width {width[kind]:.3f})" for kind in held))
    return held


@pytest.mark.real
@pytest.mark.parametrize("prompts", [20, 50, 200])
@pytest.mark.parametrize(("rate", "soft"), [(0.5, False), (0.9, False), (0.5, True), (0.1, True)])
def test_win_rates(prompts: int, rate: float, soft: bool) -> None:
    """Four verdicts on each prompt, hard or probabilities; win rates of prompts vary by a Beta distribution."""

    def draw(seed: int) -> Ends:
        rng = np.random.default_rng([seed, prompts])
        chances = rng.beta(4 * rate, 4 * (1 - rate), prompts)[:, None] * np.ones((1, 4))
        values = rng.beta(chances + 0.01, 1.01 - chances) if soft else (rng.random(chances.shape) < chances) * 1.0
        names = np.repeat(np.arange(prompts), 4)
        found = cluster_bootstrap(names, lambda weights: weighted_mean(values.ravel(), weights), seed=seed)
        low, high = np.quantile(found.samples[:, 0], [0.025, 0.975])
        return {
            "share_interval": ends(share_interval(values.ravel(), [str(name) for name in names])),
            "rows taken as independent": ends(share_interval(values.ravel())),
            "bootstrap": ends(found.intervals()[0]),
            "percentile bootstrap": (float(low), float(high)),
        }

    truth = (1 - 2 * 0.01 / 1.02) * rate + 0.01 / 1.02 if soft else rate
    held = coverage(f"{prompts} prompts, win rate {rate}, {'soft' if soft else 'hard'}", truth, 1000, draw)
    assert 0.925 < held["share_interval"] < 0.985
    assert 0.92 < held["bootstrap"] < 0.98
    assert held["rows taken as independent"] < 0.91


@pytest.mark.real
def test_ratings() -> None:
    """Four policies, all compared on each of 60 prompts, which all the comparisons of a prompt share a part of."""
    strengths = np.array([0.8, 0.2, -0.2, -0.8])
    own, other = np.triu_indices(4, 1)

    def draw(seed: int) -> Ends:
        rng = np.random.default_rng(seed)
        better = rng.random((60, 6)) < chance(strengths[own] - strengths[other])
        names = [str(prompt) for prompt in np.repeat(np.arange(60), 6)]
        first, second = ([f"p{at}" for at in side] * 60 for side in (own, other))
        found = {one.policy: one for one in ratings(first, second, better.ravel(), names, samples=500, seed=seed)}
        return {"strength of the best": ends(found["p0"].strength)}

    held = coverage("ratings", 0.8, 300, draw)
    assert 0.91 < held["strength of the best"] < 0.985


@pytest.mark.real
@pytest.mark.parametrize("others", [0, 5])
def test_length_controlled_win_rates(others: int) -> None:
    """200 prompts of unit variance in difficulty, a judge that likes length, and a policy that writes more."""
    many = np.random.default_rng(0).normal(0, 1, 200_000)
    spread = 1.0 if others else 0.0
    truth = float(chance(0.3 + spread * many).mean())

    def one(rng: np.random.Generator, theta: float, ease: np.ndarray, shift: float) -> Outcomes:
        longer = rng.normal(shift, 300, ease.size)
        better = rng.random(ease.size) < chance(theta + 1.5 * length_term(longer) + ease)
        return Outcomes([str(place) for place in range(ease.size)], better.astype(float), longer)

    def draw(seed: int) -> Ends:
        rng = np.random.default_rng([seed, others])
        ease = spread * rng.normal(0, 1, 200)
        rivals = [one(rng, theta, ease, 0.0) for theta in np.linspace(-1, 1, others)] if others else []
        control = length_control(one(rng, 0.3, ease, 200.0), rivals, samples=400, seed=seed)
        assert control.controlled is not None
        assert control.unfitted_standard_error is not None
        half = 1.96 * control.unfitted_standard_error
        mean = control.controlled.mean
        return {"refitted": ends(control.controlled), "not refitted": (mean - half, mean + half)}

    held = coverage(f"length control, {others} other policies", truth, 300, draw)
    assert 0.91 < held["refitted"] < 0.985
    assert held["not refitted"] < 0.85

"""Ratings of many policies from comparisons of two at a time: Bradley and Terry's model, and a matrix of win rates.

Dimension letters: N comparisons, K policies, B bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from seralign.errors import ConfigError
from seralign.evaluation.bootstrap import cluster_bootstrap, is_enough, without_ends
from seralign.intervals import Interval, finite, share_interval

# Wins that each side of a compared pair is given before the fit. One half removes most of the bias of log-odds (Haldane
# 1956), and a policy that wins every comparison has a finite rating.
_PRIOR = 0.5


@dataclass(frozen=True, slots=True)
class Rating:
    """The rating of a policy.

    Args:
        policy: Its name.
        strength: In log-odds. The probability that a policy beats another is the sigmoid of the difference of their
            strengths; 400 / ln 10 times it is a difference on the Elo scale.
        win_rate: Mean probability, by the model, that it beats another of the policies.
    """

    policy: str
    strength: Interval
    win_rate: Interval


@dataclass(frozen=True, slots=True)
class WinMatrix:
    """Win rates of each policy against each other, as they were observed.

    ``rates[i][j]`` is the win rate of policy i against policy j; None if they were not compared.
    """

    policies: tuple[str, ...]
    rates: tuple[tuple[Interval | None, ...], ...]


def ratings(
    first: Sequence[str],
    second: Sequence[str],
    first_better: ArrayLike,
    prompts: Sequence[str],
    *,
    anchor: str | None = None,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> list[Rating]:
    """Strengths of all policies by Bradley and Terry's model, the strongest first.

    A probability counts as that share of a win, so one half is a tie. Intervals are a bootstrap over prompts: the model
    is fitted again to each sample. A policy with too few wins, losses or prompts for one has a rating without an
    interval (``seralign.evaluation.bootstrap.is_enough``). The strengths of the others are relative to it: their
    intervals leave out how uncertain its strength is, and are too narrow.

    Args:
        first: Name of the policy of the first response [N].
        second: Name of the policy of the second response [N].
        first_better: Probability that the first response is better [N].
        prompts: Name of the prompt [N].
        anchor: The policy whose strength is 0. By default, the mean of all strengths is 0.
        level: Confidence level.
        samples: Number of bootstrap samples.
        seed: Seed of the samples.

    Raises:
        ConfigError: The library evalica is not installed.
        ValueError: There is no comparison, a probability is not in [0, 1], a policy is compared with itself, the
            anchor is not among the policies, or policies cannot be rated together because no chain of comparisons
            connects them.
    """
    names, own, other, better = _checked(first, second, first_better, prompts)
    if anchor is not None and anchor not in names:
        raise ValueError(f"anchor must be one of {', '.join(names)}, got {anchor!r}")
    count = len(names)
    wins, losses = own * count + other, other * count + own
    compared = np.zeros(count * count, bool)
    compared[wins] = compared[losses] = True
    _check_connected(names, compared.reshape(count, count))
    prior = _PRIOR * compared

    def fit(weights: np.ndarray) -> np.ndarray:
        """Strengths and mean win rates [B, 2 K]."""
        found = np.empty((len(weights), 2 * count))
        for place, weight in enumerate(weights):
            won = prior + np.bincount(wins, weight * better, count * count)
            won += np.bincount(losses, weight * (1 - better), count * count)
            strength = _bradley_terry(won.reshape(count, count))
            chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
            found[place, count:] = (chance.sum(1) - 0.5) / (count - 1)
            found[place, :count] = strength - (strength.mean() if anchor is None else strength[names.index(anchor)])
        return found

    intervals = cluster_bootstrap(prompts, fit, samples=samples, seed=seed).intervals(level)
    asked = np.asarray(prompts, object)
    found = []
    for place, name in enumerate(names):
        outcomes = np.concatenate([better[own == place], 1 - better[other == place]])
        enough = is_enough(outcomes, np.concatenate([asked[own == place], asked[other == place]]))
        strength, rate = (_of(interval, outcomes.size, enough) for interval in intervals[place::count])
        found.append(Rating(name, strength, rate))
    return sorted(found, key=lambda rating: -rating.strength.mean)


def win_matrix(
    first: Sequence[str], second: Sequence[str], first_better: ArrayLike, prompts: Sequence[str], level: float = 0.95
) -> WinMatrix:
    """The win rate of each policy against each other, with an interval over prompts.

    Args:
        first: Name of the policy of the first response [N].
        second: Name of the policy of the second response [N].
        first_better: Probability that the first response is better [N].
        prompts: Name of the prompt [N].
        level: Confidence level.

    Raises:
        ValueError: There is no comparison, a probability is not in [0, 1], or a policy is compared with itself.
    """
    names, own, other, better = _checked(first, second, first_better, prompts)
    asked = np.asarray(prompts, object)

    def rate(mine: int, theirs: int) -> Interval | None:
        here, turned = (own == mine) & (other == theirs), (own == theirs) & (other == mine)
        outcomes = np.concatenate([better[here], 1 - better[turned]])
        return share_interval(outcomes, [*asked[here], *asked[turned]], level)

    places = range(len(names))
    return WinMatrix(tuple(names), tuple(tuple(rate(mine, theirs) for theirs in places) for mine in places))


def _checked(
    first: Sequence[str], second: Sequence[str], first_better: ArrayLike, prompts: Sequence[str]
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """The names of the policies, and of each comparison its two policies by number, and its outcome."""
    better = finite(first_better, "first_better")
    if not len(first) == len(second) == len(prompts) == better.size:
        sizes = f"{len(first)}, {len(second)}, {len(prompts)} and {better.size}"
        raise ValueError(f"first, second, prompts and first_better must be equally long, got {sizes}")
    if not better.size:
        raise ValueError("there is no comparison to rate policies by")
    if better.min() < 0 or better.max() > 1:
        raise ValueError(f"first_better must be within [0, 1], got {better.min()} to {better.max()}")
    names = list(dict.fromkeys([name for pair in zip(first, second, strict=True) for name in pair]))
    place = {name: at for at, name in enumerate(names)}
    own, other = (np.array([place[name] for name in side]) for side in (first, second))
    if (own == other).any():
        raise ValueError(f"policy {first[int(np.argmax(own == other))]!r} is compared with itself")
    return names, own, other, better


def _check_connected(names: list[str], compared: np.ndarray) -> None:
    reached = {0}
    while new := {int(at) for row in reached for at in np.flatnonzero(compared[row])} - reached:
        reached |= new
    apart = [name for at, name in enumerate(names) if at not in reached]
    if apart:
        raise ValueError(
            f"policies cannot be rated together: no chain of comparisons connects {names[0]!r} with {apart[0]!r}"
        )


def _bradley_terry(won: np.ndarray) -> np.ndarray:
    """Strengths [K] from the wins of each over each [K, K]."""
    try:
        import evalica
    except ModuleNotFoundError as error:
        raise ConfigError(
            "ratings of policies need the library evalica, which is not installed; pip install 'seralign[judges]'"
        ) from error
    winner, loser = np.nonzero(won)
    fitted = evalica.bradley_terry(
        winner.tolist(),
        loser.tolist(),
        [evalica.Winner.X] * len(winner),
        weights=won[winner, loser].tolist(),
        tolerance=1e-8,
        limit=10_000,
    )
    return np.log(fitted.scores.sort_index().to_numpy())


def _of(interval: Interval | None, n: int, enough: bool) -> Interval:
    found = interval if enough else without_ends(interval)
    assert found is not None
    return Interval(found.mean, found.low, found.high, n)

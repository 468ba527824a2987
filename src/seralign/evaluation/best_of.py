"""Best-of-n sampling: which of n responses is best, what it gains by n, and its distance from the policy. Pure.

Dimension letters: P prompts, N responses to each, K sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike

Pairs = Sequence[tuple[int, int, int]]
"""Comparisons to decide: (prompt, first response, second response)."""
Decide = Callable[[Pairs], Sequence[float | None]]
"""The probability that the first response is better, for each comparison; None without a verdict."""


def kl_bound(n: int) -> float:
    """log n - (n - 1) / n, in nats: the KL divergence of best-of-n sampling from the policy that is sampled.

    It is exact if no two different responses have the same reward and no response is drawn twice with positive
    probability, as with continuous responses. Otherwise it is an upper bound (Beirami et al., 2401.01879): the more
    responses are equal, the smaller the divergence itself is.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def sizes(n: int) -> list[int]:
    """1, 2, 4, ... up to n, and n itself."""
    return [*(2**power for power in range(n.bit_length()) if 2**power < n), n]


def subset_means(rewards: ArrayLike, counts: Sequence[int]) -> np.ndarray:
    """The expected reward of the best of k responses, by prompt [P, K].

    It is the mean of the highest reward over all subsets of k of the N responses, which is an unbiased estimate and
    varies less than the best of the first k. With rewards r_1 <= ... <= r_N, r_i is the highest in C(i - 1, k - 1) of
    the C(N, k) subsets.

    Args:
        rewards: [P, N].
        counts: The sizes k [K], each from 1 to N.

    Raises:
        ValueError: A reward is not finite, or a size is not from 1 to N.
    """
    table = np.sort(np.asarray(rewards, dtype=np.float64), axis=1)
    if not np.isfinite(table).all():
        raise ValueError("rewards must be finite")
    n = table.shape[1]
    if not all(1 <= k <= n for k in counts):
        raise ValueError(f"sizes must be from 1 to {n}, got {list(counts)}")
    # Python's integers are exact where floats would overflow.
    weights = [[comb(place, k - 1) / comb(n, k) for place in range(n)] for k in counts]
    return table @ np.array(weights, dtype=np.float64).reshape(len(counts), n).T


def mean_win_rates(texts: Sequence[Sequence[str]], decide: Decide) -> np.ndarray:
    """The mean win rate of each response against the others to its prompt [P, N]; NaN without any verdict.

    Equal texts tie, and are not judged.

    Args:
        texts: The responses [P][N].
        decide: Decides all pairs.
    """
    n = len(texts[0])
    pairs = [(row, a, b) for row in range(len(texts)) for a, b in combinations(range(n), 2)]
    wins, games = np.zeros((len(texts), n)), np.zeros((len(texts), n))
    for (row, a, b), better in zip(pairs, _decided(texts, pairs, decide), strict=True):
        if better is not None:
            wins[row, a] += better
            wins[row, b] += 1 - better
            games[row, [a, b]] += 1
    return np.divide(wins, games, out=np.full(wins.shape, np.nan), where=games > 0)


def knockout(texts: Sequence[Sequence[str]], decide: Decide) -> np.ndarray:
    """The winner of a tournament of each prompt's responses [P].

    Neighbours are compared, and the winners are compared again. With a tie or without a verdict, the first one stays;
    the last one of an odd number stays without a comparison.
    """
    left = [list(range(len(row))) for row in texts]
    while max(map(len, left), default=1) > 1:
        pairs = [(row, one[at], one[at + 1]) for row, one in enumerate(left) for at in range(0, len(one) - 1, 2)]
        winners: list[list[int]] = [[] for _ in left]
        for (row, a, b), better in zip(pairs, _decided(texts, pairs, decide), strict=True):
            winners[row].append(b if better is not None and better < 0.5 else a)
        left = [won + one[-1:] * (len(one) % 2) for won, one in zip(winners, left, strict=True)]
    return np.array([one[0] for one in left], dtype=np.int64)


def _decided(texts: Sequence[Sequence[str]], pairs: Pairs, decide: Decide) -> list[float | None]:
    """The verdicts on pairs; a tie for equal texts."""
    different = [(row, a, b) for row, a, b in pairs if texts[row][a] != texts[row][b]]
    found = iter(decide(different) if different else ())
    return [0.5 if texts[row][a] == texts[row][b] else next(found) for row, a, b in pairs]

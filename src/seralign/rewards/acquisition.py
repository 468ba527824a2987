"""Acquisition functions of active learning: which of N unlabelled pairs a labeller is asked about. Pure.

On-policy pairs and a coreset of them are what 2407.02119 builds a reward model from with few labels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from seralign.config.query import Strategy

# Words are hashed into as many columns; more would not separate texts of a few hundred words better.
_COLUMNS = 512


def acquire(
    strategy: Strategy,
    budget: int,
    size: int,
    seed: int,
    *,
    margins: Callable[[], np.ndarray],
    spreads: Callable[[], np.ndarray],
    texts: Callable[[], Sequence[str]],
) -> np.ndarray:
    """The rows of the pairs to ask about, the most informative first; all of them if the budget allows.

    Only what the strategy needs is computed.

    Args:
        strategy: How they are chosen.
        budget: At most so many pairs.
        size: Number N of pairs.
        seed: Of ``random``.
        margins: Gives the margins [N].
        spreads: Gives the standard deviations of the margins over several models [N].
        texts: Gives the text of each pair [N]: its prompt and both responses.

    Returns:
        [min(budget, N)] different rows.
    """
    if strategy == "uncertainty":
        order = np.argsort(np.abs(margins()), kind="stable")
    elif strategy == "disagreement":
        order = np.argsort(-spreads(), kind="stable")
    elif strategy == "coreset":
        return k_center(surface_features(texts()), min(budget, size))
    else:
        order = np.random.default_rng(seed).permutation(size)
    return order[:budget]


def k_center(features_ND: np.ndarray, count: int) -> np.ndarray:
    """Greedy k-center (Sener and Savarese, 1708.00489): each next row is the one farthest from all chosen ones.

    The first row is the one nearest to the mean. Of equal rows, the first is taken.

    For example, of the points 0, 1, 5 and 9 on a line, with the mean 3.75, the order is 5, 0, 9, 1.

    Args:
        features_ND: [N, D].
        count: Number of rows, at most N.

    Returns:
        [count] rows in the order in which they were chosen.
    """
    if not count:
        return np.empty(0, np.int64)
    first = int(np.argmin(_squared_distances(features_ND, features_ND.mean(axis=0))))
    chosen = [first]
    nearest_N = _squared_distances(features_ND, features_ND[first])
    nearest_N[first] = -1.0
    while len(chosen) < count:
        row = int(np.argmax(nearest_N))
        chosen.append(row)
        nearest_N = np.minimum(nearest_N, _squared_distances(features_ND, features_ND[row]))
        nearest_N[row] = -1.0
    return np.array(chosen, np.int64)


def surface_features(texts: Sequence[str]) -> np.ndarray:
    """Hashed counts of the words and of the neighbouring words of each text, as unit vectors [N, 512].

    They need no model, so that they are the same on every machine.
    """
    found = np.zeros((len(texts), _COLUMNS))
    for row, text in enumerate(texts):
        words = text.lower().split()
        for item in (*words, *(" ".join(two) for two in pairwise(words))):
            found[row, zlib.crc32(item.encode()) % _COLUMNS] += 1.0
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _squared_distances(features_ND: np.ndarray, point_D: np.ndarray) -> np.ndarray:
    return np.square(features_ND - point_D).sum(axis=1)

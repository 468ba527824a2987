"""Which unlabelled pairs are asked about, on hand-made margins, spreads and points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.config.query import Strategy
from seralign.rewards.acquisition import acquire, k_center, surface_features

MARGINS = np.array([2.0, -0.1, 0.5, -3.0, 0.1])
SPREADS = np.array([0.3, 0.9, 0.0, 0.9, 0.5])
TEXTS = ["a b c", "a b c", "x y z", "a b d", "p q r"]


def _chosen(strategy: Strategy, budget: int, seed: int = 0) -> list[int]:
    found = acquire(
        strategy, budget, len(MARGINS), seed, margins=lambda: MARGINS, spreads=lambda: SPREADS, texts=lambda: TEXTS
    )
    return found.tolist()


def test_uncertainty_takes_the_margins_nearest_to_zero() -> None:
    # Equal distances in the order of the rows: -0.1 stands before 0.1.
    assert _chosen("uncertainty", 3) == [1, 4, 2]
    assert _chosen("uncertainty", 9) == [1, 4, 2, 0, 3]


def test_disagreement_takes_the_largest_spreads() -> None:
    assert _chosen("disagreement", 3) == [1, 3, 4]


def test_coreset_does_not_ask_twice_about_the_same_words() -> None:
    # Rows 0 and 1 are equal, and row 3 shares two words with them: the three different texts come first.
    first = _chosen("coreset", 3)
    assert len({TEXTS[row] for row in first}) == 3
    assert {2, 4} < set(first)
    assert _chosen("coreset", 5)[-1] in (0, 1)


def test_random_is_by_seed() -> None:
    assert _chosen("random", 3) == np.random.default_rng(0).permutation(5)[:3].tolist()
    assert len({tuple(_chosen("random", 3, seed)) for seed in range(20)}) > 5


def test_only_what_a_strategy_needs_is_computed() -> None:
    def unused() -> np.ndarray:
        raise AssertionError("not needed")

    found = acquire("random", 2, 4, 0, margins=unused, spreads=unused, texts=unused)  # pyright: ignore
    assert len(found) == 2


def test_k_center_on_a_line() -> None:
    points = np.array([[0.0], [1.0], [5.0], [9.0]])
    assert k_center(points, 4).tolist() == [2, 0, 3, 1]
    assert k_center(points, 0).tolist() == []
    assert k_center(np.zeros((3, 2)), 3).tolist() == [0, 1, 2]


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=12), st.integers(1, 12))
def test_greedy_k_center_is_within_twice_the_best_radius(points: list[tuple[int, int]], count: int) -> None:
    from itertools import combinations

    features = np.array(points, float)
    count = min(count, len(points))
    chosen = k_center(features, count).tolist()
    assert len(set(chosen)) == count

    def radius(centers: tuple[int, ...]) -> float:
        distances = np.linalg.norm(features[:, None] - features[list(centers)][None], axis=2)
        return float(distances.min(axis=1).max())

    best = min(radius(centers) for centers in combinations(range(len(points)), count))
    assert radius(tuple(chosen)) <= 2 * best + 1e-9


def test_features_count_words_and_neighbours() -> None:
    one, same, other = surface_features(["a b a", "A  b a", "c d"])
    assert np.linalg.norm(one) == pytest.approx(1.0)
    assert (one == same).all()
    # a twice, b once, "a b" and "b a" once: 2, 1, 1, 1 of norm sqrt(7).
    assert sorted(one[one > 0] * np.sqrt(7)) == pytest.approx([1, 1, 1, 2])
    assert one @ other == 0.0
    assert not surface_features([""]).any()

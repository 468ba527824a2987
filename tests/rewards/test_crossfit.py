"""Folds, calibration and soft labels: by hand, and what must hold of any input."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.rewards.crossfit import calibrate, folds, soft_labels


@given(st.lists(st.integers(0, 30), min_size=1, max_size=80), st.integers(2, 6), st.integers(0, 1000))
def test_a_prompt_is_in_one_fold_and_folds_have_as_many_prompts(prompts: list[int], count: int, seed: int) -> None:
    found = folds(prompts, count, seed)

    of_prompt = {prompt: {int(fold) for fold, other in zip(found, prompts, strict=True) if other == prompt}
                 for prompt in prompts}  # fmt: skip
    assert all(len(seen) == 1 for seen in of_prompt.values())
    sizes = Counter(next(iter(seen)) for seen in of_prompt.values())
    assert set(sizes) <= set(range(count))
    assert max(sizes.values()) - min(sizes.get(fold, 0) for fold in range(count)) <= 1
    np.testing.assert_array_equal(found, folds(prompts, count, seed))


def test_another_seed_draws_other_folds() -> None:
    assert folds(range(100), 4, 0).tolist() != folds(range(100), 4, 1).tolist()


def test_calibration_by_hand() -> None:
    """Margins of one size, three quarters of them as labelled: sigmoid(2 a) = 3/4."""
    margins = np.array([2.0, 2.0, 2.0, -2.0])

    assert calibrate(margins, np.ones(4)) == pytest.approx(math.log(3) / 2, abs=1e-9)
    # Soft labels of 3/4 say the same of margins that are all right.
    assert calibrate(np.full(4, 2.0), np.full(4, 0.75)) == pytest.approx(math.log(3) / 2, abs=1e-9)


def test_calibration_finds_the_scale_that_labels_were_drawn_with() -> None:
    random = np.random.default_rng(0)
    margins = random.normal(scale=3.0, size=20_000)
    right = random.random(20_000) < 1 / (1 + np.exp(-0.3 * margins))

    # As the data would have it: the chosen response first, so that the margin's sign says whether it was right.
    assert calibrate(np.where(right, margins, -margins), np.ones(20_000)) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("margins", [[-1.0, -2.0], [1.0, -1.0], [0.0, 0.0]])
def test_margins_that_tell_nothing_have_no_scale(margins: list[float]) -> None:
    assert calibrate(np.array(margins), np.ones(2)) == 0.0


def test_margins_that_tell_all_have_a_large_scale_and_certain_labels() -> None:
    margins = np.array([1.0, 2.0])
    scale = calibrate(margins, np.ones(2))

    assert math.isfinite(scale)
    assert soft_labels(margins, np.ones(2), scale, 0.5).tolist() == [1.0, 1.0]


def test_labels_by_hand() -> None:
    margins, hard = np.array([0.0, math.log(3), -math.log(3)]), np.ones(3)

    np.testing.assert_allclose(soft_labels(margins, hard, 1.0, 0.5), [0.5, 0.75, 0.25])
    # A label that is right four times of five adds log 4.
    np.testing.assert_allclose(soft_labels(margins, hard, 1.0, 0.8), [0.8, 12 / 13, 4 / 7])
    # A label of 3/4 by one who is right four times of five: 0.8 * 0.75 + 0.2 * 0.25 = 0.65.
    np.testing.assert_allclose(soft_labels(np.zeros(1), np.array([0.75]), 1.0, 0.8), [0.65])


@given(st.floats(-50, 50), st.floats(0, 1), st.floats(0, 5), st.floats(0.5, 0.99))
def test_the_swapped_pair_has_the_other_label(margin: float, p: float, scale: float, trust: float) -> None:
    given_way, swapped = (
        soft_labels(np.array([sign * margin]), np.array([label]), scale, trust)[0]
        for sign, label in ((1, p), (-1, 1 - p))
    )
    assert 0.0 <= given_way <= 1.0
    assert given_way + swapped == pytest.approx(1.0, abs=1e-9)

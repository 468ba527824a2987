"""What length explains of margins: by hand, and what must hold of any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.rewards.length_correction import length_slope


def test_slope_by_hand() -> None:
    hard = np.ones(3)
    # About their means h is -2, 2, 0 and d is -1, 0, 1.
    assert length_slope(np.array([1.0, 5.0, 3.0]), np.array([4.0, 5.0, 6.0]), hard) == pytest.approx(1.0)
    # The label alone: one half more where it is sure. Two tokens explain one nat of the rest.
    p, longer = np.array([1.0, 1.0, 0.75, 0.5]), np.array([0.0, 2.0, 1.0, 4.0])
    assert length_slope((2 * p - 1) + 0.5 * longer, longer, p) == pytest.approx(0.5)


def test_nothing_is_taken_where_length_does_not_differ() -> None:
    assert length_slope(np.array([3.0, 1.0]), np.zeros(2), np.ones(2)) == 0.0
    # As long in every pair: that may be the label as well.
    assert length_slope(np.array([3.0, 1.0]), np.array([4.0, 4.0]), np.ones(2)) == 0.0
    assert length_slope(np.array([3.0, 1.0]), np.array([4.0, 4.0]), np.array([0.5, 0.5])) == pytest.approx(0.5)


def test_a_policy_that_prefers_longer_chosen_answers_alike_keeps_its_margins() -> None:
    """Margins that do not go with length, of pairs whose chosen answers are longer: nothing to take away."""
    rng = np.random.default_rng(0)
    longer = rng.normal(50.0, 100.0, 20_000)
    margins = rng.normal(1.0, 1.0, 20_000)
    left = margins - length_slope(margins, longer, np.ones(20_000)) * longer

    assert abs(np.corrcoef(left, longer)[0, 1]) < 1e-9
    assert left.mean() == pytest.approx(1.0, abs=0.03)


pairs = st.lists(
    st.tuples(st.floats(-50, 50), st.integers(-20, 20), st.booleans(), st.floats(0, 1)), min_size=1, max_size=40
)


@given(pairs)
def test_what_is_left_does_not_know_length_whichever_way_round_pairs_are(
    rows: list[tuple[float, int, bool, float]],
) -> None:
    margins, longer = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    signs, p = np.array([1.0 if row[2] else -1.0 for row in rows]), np.array([row[3] for row in rows])
    slope = length_slope(margins, longer, p)
    swapped = length_slope(signs * margins, signs * longer, 0.5 + signs * (p - 0.5))
    assert swapped == pytest.approx(slope, abs=1e-6, rel=1e-6)

    label = 2 * p - 1
    design = np.stack([longer, label], axis=1)
    if np.linalg.matrix_rank(design) == 2 and np.linalg.cond(design) < 1e3:
        assert slope == pytest.approx(float(np.linalg.lstsq(design, margins, rcond=None)[0][0]), abs=1e-6)

"""What length explains of margins: by hand, and what must hold of any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.debias import length_slope


def test_slope_by_hand() -> None:
    """(3 * 2 + 1 * -1) / (4 + 1) = 1: longer by two tokens and worth 3, shorter by one and worth 1."""
    assert length_slope(np.array([3.0, 1.0]), np.array([2.0, -1.0])) == 1.0
    assert length_slope(np.array([3.0, 1.0]), np.zeros(2)) == 0.0


pairs = st.lists(st.tuples(st.floats(-50, 50), st.integers(-20, 20), st.booleans()), min_size=1, max_size=40)


@given(pairs)
def test_what_is_left_does_not_know_length_whichever_way_round_pairs_are(rows: list[tuple[float, int, bool]]) -> None:
    margins, longer = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    signs = np.array([1.0 if row[2] else -1.0 for row in rows])
    slope = length_slope(margins, longer)

    assert (margins - slope * longer) @ longer == pytest.approx(0.0, abs=1e-6)
    assert length_slope(signs * margins, signs * longer) == pytest.approx(slope, abs=1e-9)

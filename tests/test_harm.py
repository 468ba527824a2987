"""When a policy is said to do harm: by the interval, and by nothing else."""

from __future__ import annotations

import pytest

from seralign.harm import harm
from seralign.intervals import Interval, share_interval


def right(count: int, pairs: int) -> Interval:
    found = share_interval([1.0] * count + [0.0] * (pairs - count))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("accuracy", "against_start"),
    [
        (None, None),
        (right(31, 64), None),  # .484, and its interval holds one half
        (right(2, 8), None),  # a quarter of a few pairs: up to .591
        (right(60, 100), right(45, 100)),
        (Interval(0.0, None, None, 1), Interval(0.0, None, None, 1)),
        (Interval(0.4, 0.3, 0.5, 9), None),
    ],
)
def test_an_interval_that_reaches_one_half_is_no_harm(accuracy: Interval, against_start: Interval | None) -> None:
    assert harm(accuracy, against_start) is None


def test_a_whole_interval_below_one_half_is_harm() -> None:
    """20 of 60: Wilson's .227 to .459. 30 of 100: .219 to .396."""
    found = harm(right(20, 60), None)
    assert found is not None
    assert (found.by, found.value) == ("heldout_accuracy", pytest.approx(1 / 3))
    assert found.text == "it ranks 33.3% (22.7 to 45.9) of the held-out pairs right"
    lost = harm(right(60, 100), right(30, 100))
    assert lost is not None
    assert (lost.by, lost.value) == ("win_rate", 0.3)
    assert lost.text == "it wins 30.0% (21.9 to 39.6) against the starting policy"

"""When a policy is said to do harm: by the interval, and by nothing else."""

from __future__ import annotations

import pytest

from seralign.harm import beyond, fell_behind, harm
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
    assert found.text == "its held-out accuracy is 33.3% (22.7 to 45.9)"
    lost = harm(right(60, 100), right(30, 100))
    assert lost is not None
    assert (lost.by, lost.value) == ("win_rate", 0.3)
    assert lost.text == "it wins 30.0% (21.9 to 39.6) against the starting policy"


@pytest.mark.parametrize(
    ("own", "best", "against_best", "fell"),
    [
        (Interval(0.554, 0.523, 0.585, 1000), Interval(0.595, 0.564, 0.625, 1000), None, False),  # they overlap
        (Interval(0.55, 0.52, 0.58, 1000), Interval(0.61, 0.58, 0.64, 1000), None, False),  # they touch
        (Interval(0.55, 0.52, 0.58, 1000), Interval(0.62, 0.59, 0.65, 1000), None, True),
        # Its answers are better than that round's, or not known to be.
        (Interval(0.55, 0.52, 0.58, 1000), Interval(0.62, 0.59, 0.65, 1000), Interval(0.58, 0.51, 0.65, 99), False),
        (Interval(0.55, 0.52, 0.58, 1000), Interval(0.62, 0.59, 0.65, 1000), Interval(0.58, 0.50, 0.66, 99), True),
        (Interval(0.1, None, None, 1), Interval(0.62, 0.59, 0.65, 1000), None, False),
    ],
)
def test_a_round_fell_behind_where_intervals_part_and_its_answers_do_not_win(
    own: Interval, best: Interval, against_best: Interval | None, fell: bool
) -> None:
    assert fell_behind(own, best, against_best) is fell
    assert not fell_behind(best, own, against_best)


def test_intervals_that_touch_do_not_tell_two_figures_apart() -> None:
    assert beyond(Interval(2.0, 1.5, 2.5, 9), Interval(1.0, 0.6, 1.4, 9))
    assert not beyond(Interval(2.0, 1.4, 2.5, 9), Interval(1.0, 0.6, 1.4, 9))
    assert not beyond(Interval(2.0, None, None, 1), Interval(1.0, 0.6, 1.4, 9))

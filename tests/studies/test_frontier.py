"""The reward-KL frontier: values worked by hand, and what holds for any points."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.report.frontier import Point, undominated
from seralign.studies.frontier import envelope, excess, gold_at, hypervolume

KL = st.floats(0.0, 50.0, allow_subnormal=False)
GOLD = st.floats(-2.0, 1.0, allow_subnormal=False)
POINTS = st.lists(st.tuples(KL, GOLD), min_size=1, max_size=12)
START = (0.0, -0.3)


def test_undominated_points_rise_in_both() -> None:
    points = [(4.0, 0.2), (1.0, 0.1), (2.0, 0.05), (5.0, 0.2), (9.0, 0.3), (1.0, 0.1)]

    # (2, .05) has more KL and less gold than (1, .1); (5, .2) more KL than (4, .2); the second (1, .1) came later.
    assert undominated(points) == [1, 0, 4]
    assert undominated([]) == []


def test_envelope_joins_undominated_points_and_stays_level_after_the_last() -> None:
    points = [START, (2.0, 0.1), (6.0, 0.3), (8.0, 0.2)]

    assert gold_at(points, 0.0) == -0.3
    assert gold_at(points, 1.0) == pytest.approx(-0.1)  # half way from -.3 to .1
    assert gold_at(points, 3.0) == pytest.approx(0.15)  # a quarter of the way from .1 to .3
    assert gold_at(points, 8.0) == gold_at(points, 40.0) == 0.3


def test_envelope_has_no_dent_where_a_policy_is_worse_than_a_mixture_of_others() -> None:
    # (3, .12) is undominated, but a quarter of the way from (2, .1) to (6, .3) there is .15.
    points = [START, (2.0, 0.1), (3.0, 0.12), (6.0, 0.3)]

    assert envelope(points) == [START, (2.0, 0.1), (6.0, 0.3)]
    assert gold_at(points, 3.0) == pytest.approx(0.15)


def test_excess_is_gold_above_the_envelope_at_the_same_kl() -> None:
    points = [START, (2.0, 0.1), (6.0, 0.3)]

    assert excess((4.0, 0.25), points) == pytest.approx(0.05)
    assert excess((10.0, 0.25), points) == pytest.approx(-0.05)
    assert excess((6.0, 0.3), points) == 0.0


def test_below_every_point_there_is_no_envelope() -> None:
    with pytest.raises(ValueError, match=r"KL of 1\.0"):
        gold_at([(2.0, 0.1)], 1.0)


def test_hypervolume_is_the_mean_of_the_best_gain_over_budgets() -> None:
    # Budgets 0-2: nothing; 2-6: .4 above the floor; 6-10: .6. (.4 * 4 + .6 * 4) / 10 = .4
    assert hypervolume([(2.0, 0.1), (6.0, 0.3), (7.0, 0.2)], -0.3, 10.0) == pytest.approx(0.4)
    # A point beyond the largest budget and one below the floor give nothing.
    assert hypervolume([(12.0, 0.9), (1.0, -0.5)], -0.3, 10.0) == 0.0
    assert hypervolume([], 0.0, 1.0) == 0.0
    with pytest.raises(ValueError, match="above 0"):
        hypervolume([START], 0.0, 0.0)


@given(POINTS)
def test_every_point_is_dominated_by_an_undominated_one_or_is_one(points: list[Point]) -> None:
    kept = [points[place] for place in undominated(points)]

    assert all(any(kl <= point[0] and gold >= point[1] for kl, gold in kept) for point in points)
    assert kept == sorted(kept)
    assert all(before[1] < after[1] for before, after in pairwise(kept))


@given(POINTS, KL, KL)
def test_envelope_is_above_all_points_and_never_falls(points: list[Point], one: float, other: float) -> None:
    curve = [START, *points]
    low, high = sorted((one, other))

    assert all(gold_at(curve, kl) >= gold - 1e-9 for kl, gold in curve)
    assert gold_at(curve, low) <= gold_at(curve, high) + 1e-9
    assert gold_at(curve, high) <= max(gold for _, gold in curve) + 1e-9


@given(POINTS, st.tuples(KL, GOLD), KL)
def test_more_policies_never_lower_the_envelope(points: list[Point], more: Point, kl: float) -> None:
    assert gold_at([START, *points, more], kl) >= gold_at([START, *points], kl) - 1e-9


@given(POINTS, st.lists(st.floats(0.0, 1.0), min_size=12, max_size=12))
def test_no_mixture_of_policies_is_above_the_envelope(points: list[Point], shares: list[float]) -> None:
    curve = [START, *points]
    weights = [share + 0.01 for share in shares[: len(curve)]] + [0.01] * (len(curve) - 12)
    total = sum(weights)
    kl, gold = (
        sum(weight * point[axis] for weight, point in zip(weights, curve, strict=True)) / total for axis in (0, 1)
    )

    assert gold <= gold_at(curve, kl) + 1e-9


@given(POINTS, st.tuples(KL, GOLD), st.floats(0.1, 60.0))
def test_hypervolume_grows_with_points_and_is_bounded_by_the_best(
    points: list[Point], more: Point, limit: float
) -> None:
    floor = -0.5
    area = hypervolume(points, floor, limit)

    assert 0.0 <= area <= max(0.0, max(gold for _, gold in points) - floor) + 1e-9
    assert hypervolume([*points, more], floor, limit) >= area - 1e-9
    assert hypervolume([points[place] for place in undominated(points)], floor, limit) == pytest.approx(area)

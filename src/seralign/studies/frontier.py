"""The reward-KL frontier: the gold reward of a method as a function of KL. Pure.

A point is (KL, gold): the KL of a policy from the supervised policy in nats, and the mean gold reward of its answers. A
policy is better with less KL and with more gold. A policy that is better in neither than another is dominated by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seralign.report.frontier import Point, undominated


def envelope(points: Sequence[Point]) -> list[Point]:
    """The upper envelope (concave hull) of some policies: its corners, by rising KL and gold.

    Straight lines join the corners, and no point is above them. A random mixture of two policies has the gold on the
    line between them, and at most the KL on it, since KL is convex. So all of the envelope can be reached.
    """
    corners: list[Point] = []
    for point in (points[place] for place in undominated(points)):
        while len(corners) > 1 and _below(corners[-1], corners[-2], point):
            corners.pop()
        corners.append(point)
    return corners


def gold_at(points: Sequence[Point], kl: float) -> float:
    """Gold of the envelope of some policies at a KL.

    It is not defined below their least KL, so include the supervised policy (KL 0). Above their largest KL it is level:
    a larger budget need not be spent.

    Args:
        points: The policies, the supervised one among them.
        kl: Where, in nats.

    Raises:
        ValueError: no point, or ``kl`` is below all of them.
    """
    corners = envelope(points)
    if not corners or kl < corners[0][0]:
        raise ValueError(f"no policy has a KL of {kl} or less")
    return float(np.interp(kl, [x for x, _ in corners], [y for _, y in corners]))


def excess(point: Point, points: Sequence[Point]) -> float:
    """Gold of a policy above the envelope of others at the same KL."""
    return point[1] - gold_at(points, point[0])


def hypervolume(points: Sequence[Point], floor: float, limit: float) -> float:
    """Gold above ``floor`` that the best policy within a budget of KL gives, averaged over budgets from 0 to ``limit``.

    The area that the points dominate, above ``floor`` and left of ``limit`` (Zitzler and Thiele's hypervolume),
    divided by ``limit``: 1/K int_0^K max(0, max {gold_i : kl_i <= k} - floor) dk.

    Args:
        points: The policies.
        floor: Gold of the supervised policy.
        limit: Largest budget K, in nats, above 0.
    """
    if limit <= 0 or not math.isfinite(limit):
        raise ValueError(f"the largest budget must be above 0, got {limit}")
    kept = [points[place] for place in undominated(points)]
    inside = [(kl, gold) for kl, gold in kept if kl <= limit and gold > floor]
    ends = [*(kl for kl, _ in inside[1:]), limit]
    return sum((end - kl) * (gold - floor) for (kl, gold), end in zip(inside, ends, strict=False)) / limit


def _below(point: Point, left: Point, right: Point) -> bool:
    """Whether a point is on or below the line between two others, left and right of it."""
    return (point[1] - left[1]) * (right[0] - left[0]) <= (right[1] - left[1]) * (point[0] - left[0])

"""The frontier of reward and distance: which policies no other one beats at less distance. As figure 2 of DPO's paper
(2305.18290), over the rounds of a run, or over runs with different settings such as ``objective.beta``."""

from __future__ import annotations

from collections.abc import Sequence

from seralign.report.columns import KL, SCORE
from seralign.report.contents import RunContents
from seralign.tables import ABSENT, Table

Point = tuple[float, float]
"""KL and reward of a policy."""


def undominated(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other dominates, by rising KL (and so by rising reward).

    Of equal points, the first is kept.
    """
    found: list[int] = []
    for place in sorted(range(len(points)), key=lambda at: (points[at][0], -points[at][1], at)):
        if not found or points[place][1] > points[found[-1]][1]:
            found.append(place)
    return found


def frontier_table(runs: Sequence[RunContents]) -> Table | None:
    """All policies by rising KL to the reference, with their mean scores; None unless two of them have both.

    A policy is on the frontier if no other has a higher score at the same KL or less, by the means.
    """
    known = [
        (run, policy, (policy.figures.kl.mean, policy.figures.score.mean))
        for run in runs
        for policy in run.figures.policies
        if policy.figures.kl is not None and policy.figures.score is not None
    ]
    if len(known) < 2:
        return None
    best = set(undominated([point for _, _, point in known]))
    order = sorted(range(len(known)), key=lambda place: known[place][2])
    rows = tuple(
        (run.name, policy.title, KL.cell(policy), SCORE.cell(policy), "yes" if place in best else ABSENT)
        for place, (run, policy, _) in ((place, known[place]) for place in order)
    )
    columns = ("run", "policy", "KL, nats", "score", "on the frontier")
    return Table("Reward against distance from the reference", columns, rows)

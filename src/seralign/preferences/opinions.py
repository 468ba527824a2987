"""What a signal says of the responses to a prompt, and its form in files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Scored:
    """A score for each response [K]; a higher one is better. None where there is none, for one of ``reasons``."""

    scores: tuple[float | None, ...]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ballot:
    """A comparison of two responses.

    Args:
        first: Index of a response.
        second: Index of another one.
        first_better: In [0, 1]: the share of ``weight`` that is for the first one, or a judge's probability.
        weight: How many votes it stands for.
        annotator: Who gave it; None if unknown.
    """

    first: int
    second: int
    first_better: float
    weight: float = 1.0
    annotator: str | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Comparisons of two responses each. ``reasons``: why others are missing."""

    ballots: tuple[Ballot, ...]
    reasons: tuple[str, ...] = ()


Opinion = Scored | Compared

SUREST = 4.0
"""Log-odds of a preference that is sure of itself; those beyond are counted as this."""


@dataclass(frozen=True, slots=True)
class Graded:
    """Preferences over K responses.

    Args:
        p: For i < j the probability in [0, 1] that response i is better than response j; pairs without one are absent.
        worth: A number for each response [K] by which they are ordered; None where there is none.
        unit: What a margin is a difference of: of ``score``, or of the two responses' ``probability``, 2p - 1.
        cyclic: Whether p may contradict itself (a over b, b over c, c over a). Scores cannot.
    """

    p: Mapping[tuple[int, int], float]
    worth: tuple[float | None, ...]
    unit: str
    cyclic: bool = False

    def margin(self, first: int, second: int) -> float:
        """By how much the two differ, in ``unit``; at least 0."""
        one, other = self.worth[first], self.worth[second]
        if self.unit == "score" and one is not None and other is not None:
            return abs(one - other)
        return abs(2.0 * self.p[min(first, second), max(first, second)] - 1.0)


def to_json(opinion: Opinion) -> dict[str, Any]:
    """Plain values that ``from_json`` reads back."""
    if isinstance(opinion, Scored):
        return {"scores": list(opinion.scores), "reasons": list(opinion.reasons)}
    ballots = [[one.first, one.second, one.first_better, one.weight, one.annotator] for one in opinion.ballots]
    return {"ballots": ballots, "reasons": list(opinion.reasons)}


def from_json(values: dict[str, Any]) -> Opinion:
    """The opinion of plain values."""
    if "scores" in values:
        return Scored(tuple(values["scores"]), tuple(values["reasons"]))
    return Compared(tuple(Ballot(*one) for one in values["ballots"]), tuple(values["reasons"]))


def log_odds(p: float) -> float:
    """log(p / (1 - p)), at most ``SUREST`` in size.

    Worked by hand: 1.386294 for p = 0.8, and 4 for p = 1.
    """
    if p in (0.0, 1.0):
        return math.copysign(SUREST, p - 0.5)
    return min(max(math.log(p / (1.0 - p)), -SUREST), SUREST)

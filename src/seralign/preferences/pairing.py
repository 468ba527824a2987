"""Which pairs are made of K responses and the preferences over them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from seralign.preferences.circles import in_circles
from seralign.preferences.config import PairsConfig
from seralign.preferences.opinions import Graded
from seralign.preferences.rules import compared

TIE = "tie"
SMALL = "margin below pairs.min_margin"
CYCLE = "preferences in a circle"
IDENTICAL = "identical responses"
UNKNOWN = "best and worst were never compared"
NO_PAIR = "fewer than two responses with a value"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A pair: the indices of the better and the worse response, and the probability that it is so."""

    chosen: int
    rejected: int
    p: float


def pairs_of(responses: Sequence[Any], graded: Graded, config: PairsConfig, dropped: Counter[str]) -> list[Chosen]:
    """The pairs that a rule makes; those that it would make but for a reason are counted in ``dropped``.

    Worked by hand: scores 3, 1, 1, 0 give, with ``all``, the pairs (0, 1), (0, 2), (0, 3), (1, 3) and (2, 3), and one
    tie; with ``adjacent`` the same without (0, 3); with ``best_worst`` only (0, 3).

    Args:
        responses: K responses; equal ones make no pair.
        graded: The preferences over them.
        config: The rule.
        dropped: Counts by reason.
    """
    worth = graded.worth
    known = [index for index, value in enumerate(worth) if value is not None]
    if len(known) < 2:
        dropped[NO_PAIR] += 1
        return []
    circles = _circles(graded) if graded.cyclic else set()
    found = []
    for pair in _candidates(known, graded, config, dropped):
        p = graded.p[pair]
        first, second = pair if p >= 0.5 else pair[::-1]
        if responses[first] == responses[second]:
            dropped[IDENTICAL] += 1
        elif p == 0.5:
            dropped[TIE] += 1
        elif pair in circles:
            dropped[CYCLE] += 1
        elif graded.margin(*pair) < config.min_margin:
            dropped[SMALL] += 1
        else:
            found.append(Chosen(first, second, 1.0 if config.hard else max(p, 1.0 - p)))
    return found


def _candidates(
    known: list[int], graded: Graded, config: PairsConfig, dropped: Counter[str]
) -> Iterator[tuple[int, int]]:
    """The pairs i < j that the rule names, and that were compared."""
    worth: dict[int, float] = {index: value for index in known if (value := graded.worth[index]) is not None}
    named = list(compared(worth, config.rule))
    if config.rule == "best_worst":
        missing = TIE if not named else UNKNOWN if named[0] not in graded.p else None
        if missing is not None:
            dropped[missing] += 1
    yield from (pair for pair in named if pair in graded.p)


def _circles(graded: Graded) -> set[tuple[int, int]]:
    """The pairs i < j whose preference is on a circle."""
    preferences = [(one, other) if p > 0.5 else (other, one) for (one, other), p in graded.p.items() if p != 0.5]
    return {(min(pair), max(pair)) for pair in in_circles(preferences)}

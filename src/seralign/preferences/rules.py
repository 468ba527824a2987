"""Which two of K responses a pairing rule compares, by what they are worth. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Literal

Which = Literal["all", "adjacent", "best_worst"]


def compared(worth: Mapping[int, float], which: Which) -> Iterator[tuple[int, int]]:
    """The pairs i < j of responses that a rule compares, in order; pairs of equal worth are among those of ``all``.

    Worth 3, 1, 1, 0 gives with ``all`` every pair; with ``adjacent``, the pairs of neighbouring levels, (0, 1), (0, 2),
    (1, 3) and (2, 3); with ``best_worst``, (0, 3). Of equally good or bad responses, the first one is taken; if all are
    equal, ``best_worst`` gives no pair.

    Args:
        worth: What each response is worth, by its index. Responses without a value are left out.
        which: The rule.
    """
    if which == "best_worst":
        best, worst = max(worth, key=worth.__getitem__), min(worth, key=worth.__getitem__)
        if worth[best] > worth[worst]:
            yield min(best, worst), max(best, worst)
        return
    levels = {value: level for level, value in enumerate(sorted(set(worth.values())))}
    for one, other in combinations(sorted(worth), 2):
        if which == "all" or abs(levels[worth[one]] - levels[worth[other]]) == 1:
            yield one, other

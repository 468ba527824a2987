"""Rankings and scores of K responses, from the preferences over them. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.data.ranked import ALL_TIED, CONTRADICTION, NOTHING_TO_COMPARE
from seralign.preferences.circles import components
from seralign.preferences.opinions import Graded, log_odds
from seralign.preferences.pairing import CYCLE, IDENTICAL, NO_PAIR

OPEN = "order that the comparisons leave open"
UNCONNECTED = "responses that no chain of comparisons connects"
NO_VALUE = "no response with a value"


@dataclass(frozen=True, slots=True)
class Ranked:
    """Responses in order, the best first.

    Args:
        order: Their indices.
        ranks: The rank of each; 1 is the best, and no rank is skipped.
    """

    order: tuple[int, ...]
    ranks: tuple[int, ...]


def ranking_of(responses: Sequence[Any], graded: Graded, dropped: Counter[str]) -> Ranked | None:
    """The ranking that scores or comparisons stand for; None, and the reason counted in ``dropped``, if for none.

    Equal scores are a tie. So are responses in a circle of comparisons, and those that were compared with the same
    others but not with each other. Comparisons that leave open which of two ranks is the higher one give no ranking.
    Of equal responses with one rank, the first one is kept; with several ranks, there is no ranking.

    Worked by hand: scores 1, 3, 1 give the order 1, 0, 2 with the ranks 1, 2, 2. A choice of response 2 among three
    gives the order 2, 0, 1 with the same ranks. a over b and c over d, and no more, give none.

    Args:
        responses: K responses. Those without a value are not ranked.
        graded: The preferences over them.
        dropped: Counts by reason: comparisons in a circle, copies of a response, and rankings that are not made.
    """
    known = {index: value for index, value in enumerate(graded.worth) if value is not None}
    if len(known) < 2:
        dropped[NO_PAIR] += 1
        return None
    levels = _levels(list(known), graded.p, dropped) if graded.cyclic else {at: -value for at, value in known.items()}
    if levels is None:
        dropped[OPEN] += 1
        return None
    order: list[int] = []
    for index in sorted(known, key=lambda each: (levels[each], each)):
        same = next((one for one in order if responses[one] == responses[index]), None)
        if same is None:
            order.append(index)
        elif levels[same] == levels[index]:
            dropped[IDENTICAL] += 1
        else:
            dropped[CONTRADICTION] += 1
            return None
    distinct = sorted({levels[index] for index in order})
    if len(distinct) < 2:
        dropped[ALL_TIED if len(order) > 1 else NOTHING_TO_COMPARE] += 1
        return None
    places = {level: place for place, level in enumerate(distinct, start=1)}
    return Ranked(tuple(order), tuple(places[levels[index]] for index in order))


def scores_of(graded: Graded, temperature: float | None, dropped: Counter[str]) -> dict[int, float]:
    """The score of each response that has one, by its index.

    A score with a temperature is divided by it, so that p = sigmoid(score - score); without one it stays as it is. The
    strengths of Bradley and Terry stay as they are. Other comparisons give the scores whose differences are nearest to
    their log-odds (least squares; Jiang et al., 2011, "Statistical ranking and combinatorial Hodge theory"), with mean
    0. A p of 0 or 1 counts as log-odds of ``SUREST``.

    Worked by hand: p = 0.8 of two responses gives log(4) / 2 = 0.693147 and -0.693147. With log-odds of 1 in a circle,
    a over b, b over c, c over a, all scores are 0.

    Args:
        graded: The preferences.
        temperature: That of the signal.
        dropped: Counts by reason: prompts whose responses have no scores, or none that can be compared.
    """
    known = [index for index, value in enumerate(graded.worth) if value is not None]
    if not known:
        dropped[NO_VALUE] += 1
        return {}
    if not graded.cyclic:
        divisor = temperature if graded.unit == "score" and temperature is not None else 1.0
        return {index: value / divisor for index, value in enumerate(graded.worth) if value is not None}
    both = [edge for one, other in graded.p for edge in ((one, other), (other, one))]
    if len(set(components(both).values())) > 1:
        dropped[UNCONNECTED] += 1
        return {}
    place = {index: at for at, index in enumerate(known)}
    differences, odds = np.zeros((len(graded.p), len(known))), np.zeros(len(graded.p))
    for row, ((one, other), p) in enumerate(graded.p.items()):
        differences[row, place[one]], differences[row, place[other]] = 1.0, -1.0
        odds[row] = log_odds(p)
    found = np.linalg.lstsq(differences, odds, rcond=None)[0]
    return dict(zip(known, (found - found.mean()).tolist(), strict=True))


def _levels(known: Sequence[int], p: Mapping[tuple[int, int], float], dropped: Counter[str]) -> dict[int, float] | None:
    """The level of each response by the comparisons, 0 the best; None if they do not say which level is better.

    Responses in a circle have one level. Each response of a level must be better than each of the next level.
    """
    better = [(one, other) if value > 0.5 else (other, one) for (one, other), value in p.items() if value != 0.5]
    equal = [pair for pair, value in p.items() if value == 0.5]
    part = components([*better, *equal, *((other, one) for one, other in equal)])
    if circled := sum(part[one] == part[other] for one, other in better):
        dropped[CYCLE] += circled
    below: defaultdict[int, set[int]] = defaultdict(set)
    for one, other in better:
        if part[one] != part[other]:
            below[part[one]].add(part[other])
    depth = dict.fromkeys(part.values(), 0)
    # Longest paths: no path has more steps than there are parts.
    for _ in depth:
        for one, others in below.items():
            for other in others:
                depth[other] = max(depth[other], depth[one] + 1)
    for one, level in depth.items():
        if any(below_level == level + 1 and other not in below[one] for other, below_level in depth.items()):
            return None
    return {index: float(depth[part[index]]) for index in known}

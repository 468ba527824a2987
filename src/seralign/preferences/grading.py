"""From the opinion of a signal to probabilities. What needs all rows at once is estimated first."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from seralign.preferences.opinions import Ballot, Compared, Graded, Opinion, Scored
from seralign.preferences.reliability import Reliability, dawid_skene, posterior, strengths
from seralign.preferences.signals import Signal
from seralign.preferences.signals.votes import Votes

_MOST = 700.0


@dataclass(frozen=True)
class Grader:
    """What is known of a signal from all rows: how reliable its annotators are, where that was estimated."""

    signal: Signal
    annotators: tuple[Reliability, ...] = ()

    def grade(self, size: int, opinion: Opinion) -> Graded:
        """The preferences over ``size`` responses that an opinion stands for."""
        if isinstance(opinion, Scored):
            return graded_scores(opinion, self.signal.temperature)
        if not isinstance(self.signal, Votes):
            return _shares(size, {pair: _mean(ballots) for pair, ballots in tasks(opinion).items()})
        accuracy = {one.name: one.accuracy for one in self.annotators}
        prior = self.signal.prior
        match self.signal.method:
            case "dawid_skene":
                return _shares(size, {pair: posterior(own, accuracy) for pair, own in tasks(opinion).items()})
            case "bradley_terry":
                return _strengths(size, opinion, accuracy, prior)
            case _:
                return _shares(size, {pair: _smoothed(own, prior) for pair, own in tasks(opinion).items()})


def make_grader(signal: Signal, opinions: Iterable[Opinion]) -> Grader:
    """Estimate what a signal needs to know of all rows.

    Args:
        signal: The signal.
        opinions: Its opinions; read only where there is something to estimate.
    """
    if not isinstance(signal, Votes) or signal.method == "beta":
        return Grader(signal)
    compared = (one for one in opinions if isinstance(one, Compared))
    return Grader(signal, tuple(dawid_skene((own for one in compared for own in tasks(one).values()), signal.prior)))


def graded_scores(opinion: Scored, temperature: float | None) -> Graded:
    """Scores as probabilities: sigmoid(difference / temperature), or 1 for the higher score; 0.5 for equal ones.

    Worked by hand: scores 3, 1 with a temperature of 2 give p = 1 / (1 + exp(-1)) = 0.731059.
    """
    p = {}
    for (first, one), (second, other) in combinations(enumerate(opinion.scores), 2):
        if one is not None and other is not None:
            margin = one - other
            p[first, second] = 0.5 if margin == 0 else float(margin > 0)
            if temperature is not None:
                p[first, second] = 1.0 / (1.0 + math.exp(min(max(-margin / temperature, -_MOST), _MOST)))
    return Graded(p, opinion.scores, "score")


def tasks(opinion: Compared) -> dict[tuple[int, int], list[Ballot]]:
    """The ballots on each pair i < j, all with i as the first response."""
    found: defaultdict[tuple[int, int], list[Ballot]] = defaultdict(list)
    for one in opinion.ballots:
        if one.first > one.second:
            one = Ballot(one.second, one.first, 1.0 - one.first_better, one.weight, one.annotator)
        found[one.first, one.second].append(one)
    return dict(found)


def win_shares(size: int, p: dict[tuple[int, int], float]) -> tuple[float | None, ...]:
    """The mean probability of each response to be better than those that it is compared with; None without any."""
    own: list[list[float]] = [[] for _ in range(size)]
    for (first, second), better in p.items():
        own[first].append(better)
        own[second].append(1.0 - better)
    return tuple(sum(each) / len(each) if each else None for each in own)


def _shares(size: int, p: dict[tuple[int, int], float]) -> Graded:
    return Graded(p, win_shares(size, p), "probability", cyclic=True)


def _mean(ballots: Sequence[Ballot]) -> float:
    weight = sum(one.weight for one in ballots)
    return sum(one.weight * one.first_better for one in ballots) / weight


def _smoothed(ballots: Sequence[Ballot], prior: float) -> float:
    """k of n votes: (k + prior) / (n + 2 prior)."""
    votes = sum(one.weight for one in ballots)
    return (sum(one.weight * one.first_better for one in ballots) + prior) / (votes + 2.0 * prior)


def _strengths(size: int, opinion: Compared, accuracy: dict[str, float], prior: float) -> Graded:
    if not opinion.ballots:
        return Graded({}, (None,) * size, "probability")
    worth = strengths(size, opinion.ballots, accuracy, prior).tolist()
    compared = {index for one in opinion.ballots for index in (one.first, one.second)}
    p = {
        (first, second): 1.0 / (1.0 + math.exp(worth[second] - worth[first]))
        for first, second in combinations(sorted(compared), 2)
    }
    return Graded(p, tuple(worth[index] if index in compared else None for index in range(size)), "probability")

"""How reliable annotators, or signals, are (Dawid and Skene, by crowd-kit), and what follows from their ballots.

crowd-kit's own model of Bradley and Terry with annotators (NoisyBradleyTerry of 1.4.2) is not used: its gradient is not
that of its likelihood, so the reliabilities are not fitted. Here they are those of Dawid and Skene, and the strengths
are those of choix.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seralign.preferences.extras import needs
from seralign.preferences.opinions import Ballot

MOST_BALLOTS = 50_000
"""Ballots that reliabilities are estimated from, at most: the first ones."""
_SWEEPS = 5
_LIMIT = 30.0


@dataclass(frozen=True)
class Reliability:
    """How often an annotator, or a signal, names the better response.

    Args:
        name: Of the annotator.
        accuracy: In (0, 1); one half says nothing.
        count: Ballots that it was estimated from.
    """

    name: str
    accuracy: float
    count: int


def dawid_skene(tasks: Iterable[Sequence[Ballot]], prior: float) -> list[Reliability]:
    """The accuracy of each annotator, by the model of Dawid and Skene with one accuracy for each.

    A task is the ballots on one pair of responses, all with the same ``first``. The order of the responses says
    nothing: each task is also given the other way round. The estimate is that of crowd-kit; then ``prior`` right and
    as many wrong ballots are added, so an annotator with few ballots is near one half.

    Args:
        tasks: The ballots on each pair; those without a side (one half) are left out.
        prior: Above 0.
    """
    with needs("crowd-kit", "method: dawid_skene"):
        import pandas
        from crowdkit.aggregation import OneCoinDawidSkene
    rows: list[tuple[int, str, int]] = []
    counts: Counter[str] = Counter()
    for number, ballots in enumerate(tasks):
        for ballot in ballots:
            if ballot.first_better != 0.5:
                side, name = int(ballot.first_better > 0.5), str(ballot.annotator)
                rows += [(2 * number, name, side), (2 * number + 1, name, 1 - side)]
                counts[name] += 1
        if len(rows) >= 2 * MOST_BALLOTS:
            break
    if not rows:
        return []
    with warnings.catch_warnings():
        # crowd-kit uses parts of pandas that pandas is about to remove.
        warnings.simplefilter("ignore")
        model = OneCoinDawidSkene(n_iter=200, tol=1e-6).fit(pandas.DataFrame(rows, columns=["task", "worker", "label"]))
    skills = {str(name): float(skill) for name, skill in model.skills_.items()}
    return [
        Reliability(name, (count * skills[name] + prior) / (count + 2 * prior), count)
        for name, count in counts.most_common()
    ]


def posterior(ballots: Iterable[Ballot], accuracy: Mapping[str, float]) -> float:
    """The probability that the first response is better, given the ballots of annotators that err independently.

    Worked by hand: accuracies 0.9 and 0.6 that disagree give odds (0.9 / 0.1) / (0.6 / 0.4) = 6 for the first, and
    p = 6 / 7.
    """
    odds = 0.0
    for ballot in ballots:
        right = accuracy.get(str(ballot.annotator), 0.5)
        odds += (2.0 * ballot.first_better - 1.0) * math.log(right / (1.0 - right))
    return _sigmoid(odds)


def strengths(size: int, ballots: Sequence[Ballot], accuracy: Mapping[str, float], prior: float) -> np.ndarray:
    """The strength of each response [K], in log-odds: p = sigmoid(strength - strength).

    An annotator with accuracy a names i over j with probability a s + (1 - a) (1 - s), where s is the probability of
    Bradley and Terry (Chen et al., 2013, "Pairwise ranking aggregation in a crowdsourced setting"). Found by
    expectation and maximisation, the latter by choix. Every two responses are given ``prior`` wins over each other.

    Worked by hand: of two responses one has 3 ballots of annotators that are always right, the other 1. With a prior of
    1 the odds are (3 + 1) / (1 + 1), and the strengths differ by log 2.
    """
    worth = np.zeros(size)
    for _ in range(_SWEEPS):
        worth = _strengths(worth, ballots, accuracy, prior)
    return worth


def _strengths(worth: np.ndarray, ballots: Sequence[Ballot], accuracy: Mapping[str, float], prior: float) -> np.ndarray:
    """One step: a ballot counts for the other response with the probability that it is a mistake, given ``worth``."""
    wins = prior * (1.0 - np.eye(len(worth)))
    for ballot in ballots:
        share = _rightness(ballot, worth, accuracy.get(str(ballot.annotator), 0.5))
        first_wins = ballot.first_better * share + (1.0 - ballot.first_better) * (1.0 - share)
        wins[ballot.first, ballot.second] += ballot.weight * first_wins
        wins[ballot.second, ballot.first] += ballot.weight * (1.0 - first_wins)
    if len(worth) == 2:
        half = math.log(wins[0, 1] / wins[1, 0]) / 2.0
        return np.array([half, -half])
    with needs("choix", "method: bradley_terry"):
        import choix
    return np.asarray(choix.ilsr_pairwise_dense(wins, max_iter=1000))


def _rightness(ballot: Ballot, worth: np.ndarray, accuracy: float) -> float:
    """The probability that a ballot says what its annotator saw, rather than the opposite by mistake."""
    seen = _sigmoid(float(worth[ballot.first] - worth[ballot.second]))
    agreeing = ballot.first_better * seen + (1.0 - ballot.first_better) * (1.0 - seen)
    return accuracy * agreeing / (accuracy * agreeing + (1.0 - accuracy) * (1.0 - agreeing))


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(value, -_LIMIT), _LIMIT)))

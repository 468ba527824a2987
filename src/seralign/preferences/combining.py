"""Several signals as one calibrated probability, and how reliable each of them is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from seralign.errors import DataError
from seralign.preferences.config import CombineConfig
from seralign.preferences.extras import needs
from seralign.preferences.grading import win_shares
from seralign.preferences.opinions import Ballot, Graded, log_odds
from seralign.preferences.reliability import MOST_BALLOTS, Reliability, dawid_skene, posterior

FOLDS = 5
BINS = 10
LEAST_GOLD = 20


@dataclass(frozen=True)
class Calibration:
    """How good a probability is on pairs with a known label that it was not estimated from.

    Args:
        name: Of the signal, or ``combined``.
        accuracy: Share of the pairs whose better response has p > 0.5; p = 0.5 counts one half.
        brier: Mean squared distance of p to the label.
        ece: Expected calibration error, over ten equally wide bins of p.
        count: Number of labels; each pair is counted both ways round.
    """

    name: str
    accuracy: float
    brier: float
    ece: float
    count: int


@dataclass(frozen=True)
class Combiner:
    """Combines signals.

    Args:
        titles: Of the signals.
        reliabilities: The accuracy of each signal, with ``dawid_skene``.
        weights: The weight of each signal's log-odds [S], with ``logistic``; 0 for the gold signal.
        gold: The place of the gold signal, with ``logistic``.
        calibration: On the pairs with a gold label, by cross-validation.
    """

    titles: tuple[str, ...]
    reliabilities: tuple[Reliability, ...] = ()
    weights: tuple[float, ...] = ()
    gold: int | None = None
    calibration: tuple[Calibration, ...] = ()

    def combine(self, size: int, graded: Sequence[Graded]) -> Graded:
        """The preferences over ``size`` responses, from those of each signal. Where there is gold, gold it is."""
        accuracy = {one.name: one.accuracy for one in self.reliabilities}
        p = {}
        for pair in _pairs(graded):
            gold = None if self.gold is None else graded[self.gold].p.get(pair)
            if gold is not None and gold != 0.5:
                p[pair] = gold
            elif self.weights:
                p[pair] = _sigmoid(float(np.dot(self.weights, features(graded, pair))))
            else:
                p[pair] = posterior(_ballots(self.titles, graded, pair), accuracy)
        return Graded(p, win_shares(size, p), "probability", cyclic=True)


def make_combiner(config: CombineConfig, titles: Sequence[str], groups: Iterable[Sequence[Graded]]) -> Combiner:
    """Estimate how reliable signals are.

    Args:
        config: The method.
        titles: Of the signals.
        groups: What each signal says of each prompt.

    Raises:
        DataError: With ``logistic``: there are too few pairs with a gold label.
    """
    titles = tuple(titles)
    if config.gold is None:
        tasks = (_ballots(titles, graded, pair) for graded in groups for pair in _pairs(graded))
        return Combiner(titles, tuple(dawid_skene(tasks, config.prior)))
    place = titles.index(config.gold)
    known = list(islice(_known(groups, place), MOST_BALLOTS))
    folds = {number % FOLDS for number, *_ in known}
    if len(known) < LEAST_GOLD or len(folds) < FOLDS:
        raise DataError(
            f"combine.gold: {len(known)} pairs have a label of {config.gold!r} and another signal; at least "
            f"{LEAST_GOLD}, of {FOLDS} prompts, are needed"
        )
    numbers, found, labels = (np.array(part, dtype=float) for part in zip(*known, strict=True))
    found[:, place] = 0.0
    # Each pair both ways round: the order of two responses says nothing.
    numbers, found = np.concatenate([numbers, numbers]), np.concatenate([found, -found])
    labels = np.concatenate([labels, 1.0 - labels])
    held_out = np.zeros(len(labels))
    for fold in range(FOLDS):
        inside = numbers % FOLDS == fold
        held_out[inside] = _apply(_weights(found[~inside], labels[~inside]), found[inside])
    signals = [title for title in titles if title != config.gold]
    alone = [calibration(title, _apply(np.eye(len(titles))[titles.index(title)], found), labels) for title in signals]
    weights = tuple(_weights(found, labels).tolist())
    return Combiner(titles, (), weights, place, (*alone, calibration("combined", held_out, labels)))


def features(graded: Sequence[Graded], pair: tuple[int, int]) -> list[float]:
    """The log-odds of each signal that the first response of a pair is better, at most ``SUREST`` in size; 0 where it
    says nothing."""
    return [log_odds(one.p.get(pair, 0.5)) for one in graded]


def calibration(name: str, p: np.ndarray, labels: np.ndarray) -> Calibration:
    """How good probabilities [N] are, given labels [N] in [0, 1].

    Worked by hand: p = 0.9, 0.8 with labels 1, 0 are right once in two; Brier (0.01 + 0.64) / 2 = 0.325; in two bins of
    one pair each the distances are 0.1 and 0.8, and the calibration error is 0.45.
    """
    right = np.where(p == 0.5, 0.5, (p > 0.5) == (labels > 0.5))
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = [
        abs(p[bins == each].mean() - labels[bins == each].mean()) * (bins == each).sum() for each in np.unique(bins)
    ]
    return Calibration(name, float(right.mean()), float(((p - labels) ** 2).mean()), float(sum(gaps) / len(p)), len(p))


def _known(groups: Iterable[Sequence[Graded]], gold: int) -> Iterator[tuple[int, list[float], float]]:
    """The number of the prompt, the features and the gold label of each pair that has them."""
    for number, graded in enumerate(groups):
        for pair, label in graded[gold].p.items():
            others = [one for place, one in enumerate(graded) if place != gold]
            if label != 0.5 and any(pair in one.p for one in others):
                yield number, features(graded, pair), label


def _weights(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of a logistic regression without an intercept: the order of two responses says nothing."""
    with needs("scikit-learn", "combine.method: logistic"):
        from sklearn.linear_model import LogisticRegression
    rows, sides = np.concatenate([found, found]), np.repeat([1, 0], len(found))
    model = LogisticRegression(fit_intercept=False).fit(rows, sides, np.concatenate([labels, 1.0 - labels]))
    return model.coef_[0]


def _apply(weights: np.ndarray, found: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-(found @ weights)))


def _pairs(graded: Sequence[Graded]) -> list[tuple[int, int]]:
    """The pairs that any signal says something of."""
    return sorted({pair for one in graded for pair in one.p})


def _ballots(titles: Sequence[str], graded: Sequence[Graded], pair: tuple[int, int]) -> list[Ballot]:
    """What each signal says of a pair, as a vote for one of the two."""
    return [
        Ballot(*pair, float(one.p[pair] > 0.5), 1.0, title)
        for title, one in zip(titles, graded, strict=True)
        if one.p.get(pair, 0.5) != 0.5
    ]


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))

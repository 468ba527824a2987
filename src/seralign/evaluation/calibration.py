"""Calibration of preferences: whether responses that a policy prefers with probability p are the better ones in a share
p of the cases. Pure.

Dimension letters: N pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from seralign.intervals import finite, share_interval
from seralign.runs.calibration import CalibrationFigures, ReliabilityBin

# Bins of confidence, which is at least one half: ten bins of the probability that the first response is better.
_BINS = 5


def calibration(
    log_odds: ArrayLike, labels: ArrayLike, prompts: Sequence[str] | None = None
) -> CalibrationFigures | None:
    """How well implied probabilities sigmoid(log-odds) fit labels; ``None`` without pairs, or if all log-odds are 0.

    Which response of a pair comes first must not matter, so a pair counts for the response that the policy prefers: its
    probability is the confidence, in [0.5, 1], and the label says how probable it is that this response is the better
    one (1/2 if the log-odds are 0).

    Three pairs with log-odds ln 3, -ln 3, ln 9 and labels 1, 1, 0.5: probabilities 0.75, 0.25, 0.9 of the first
    response. Brier: (0.0625 + 0.5625 + 0.16) / 3 = 0.2617. Bin 0.7 to 0.8 has two pairs, predicted 0.75, observed
    (1 + 0) / 2; bin 0.9 to 1 has one, predicted 0.9, observed 0.5. ECE: (2 |0.75 - 0.5| + |0.9 - 0.5|) / 3 = 0.3.

    Args:
        log_odds: Implied log-odds that the first response is better [N]; for an implicit reward, beta times the margin.
        labels: Probability that the first response is better [N]; 1 for a hard label.
        prompts: Name of each pair's prompt [N]. By default, all prompts are different.

    Raises:
        ValueError: A value is not finite, a label is not in [0, 1], or the lengths differ.
    """
    odds, given = finite(log_odds, "log_odds"), finite(labels, "labels")
    for name, count in (("labels", given.size), ("prompts", odds.size if prompts is None else len(prompts))):
        if count != odds.size:
            raise ValueError(f"{name} must have one value for each pair, got {count} for {odds.size}")
    if given.size and (given.min() < 0 or given.max() > 1):
        raise ValueError(f"labels must be within [0, 1], got {given.min()} to {given.max()}")
    if not odds.any():
        return None
    names = [str(place) for place in range(odds.size)] if prompts is None else list(prompts)
    confidence = 1 / (1 + np.exp(-np.clip(np.abs(odds), 0, 500)))
    right = 0.5 + np.sign(odds) * (given - 0.5)
    brier = share_interval((confidence - right) ** 2 + np.where(odds == 0, (given - 0.5) ** 2, 0), names)
    assert brier is not None
    # Rounded, so that 0.7 is in the bin that begins there.
    place = np.minimum(np.floor(np.round((confidence - 0.5) * 2 * _BINS, 9)).astype(int), _BINS - 1)
    bins = []
    for number in np.unique(place).tolist():
        here = np.flatnonzero(place == number).tolist()
        observed = share_interval(right[here], [names[at] for at in here])
        assert observed is not None
        edges = (0.5 + number / (2 * _BINS), 0.5 + (number + 1) / (2 * _BINS))
        bins.append(ReliabilityBin(*edges, float(confidence[here].mean()), observed))
    error = sum(one.observed.n * abs(one.predicted - one.observed.mean) for one in bins) / odds.size
    return CalibrationFigures(brier, error, tuple(bins))

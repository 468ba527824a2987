"""Rewards without the part that a surface feature explains. Pure.

A policy that learned from people who like long answers rewards length; what it then selects and makes is longer still.
"""

from __future__ import annotations

import numpy as np


def length_slope(margins: np.ndarray, longer: np.ndarray, p: np.ndarray) -> float:
    """The slope b of the margin on the length difference, at equal labels.

    Least squares of h on the label 2 p - 1 and on d, which does not change where a pair is swapped. A policy prefers
    what it was trained to prefer: without the label, preferred answers that happen to be longer would make that look
    like a taste for length, and taking it away a taste for short ones. With hard labels b is the usual slope, with an
    intercept, and h - b d does not correlate with d.

    Args:
        margins: h in nats [N].
        longer: d, tokens of the chosen less those of the rejected response [N].
        p: Probability that the chosen one is better [N].

    Returns:
        Nats a token; 0 where nothing but the label goes with length.
    """
    label = 2 * p - 1
    weight = float(label @ label)
    own = longer - label * (float(label @ longer) / weight) if weight else longer
    squares = float(own @ own)
    return float(margins @ own) / squares if squares > 1e-9 * float(longer @ longer) else 0.0

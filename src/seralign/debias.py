"""Rewards without the part that a surface feature explains. Pure.

A policy that learned from people who like long answers rewards length; what it then selects and makes is longer still.
"""

from __future__ import annotations

import numpy as np


def length_slope(margins: np.ndarray, longer: np.ndarray) -> float:
    """The slope b of the margin on the length difference, by least squares through the origin.

    b = sum h d / sum d^2, which does not change where a pair is swapped: the slope of a reward r(y) = b |y| + rest
    whose rest does not go with length. sum (h - b d) d = 0; the correlation about the means may be left with a little.

    Args:
        margins: h in nats [N].
        longer: d, tokens of the chosen less those of the rejected response [N].

    Returns:
        Nats a token; 0 where all responses of a pair are equally long.
    """
    squares = float(longer @ longer)
    return float(margins @ longer) / squares if squares else 0.0

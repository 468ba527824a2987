"""The figures of calibration: implied probabilities of preference against labels."""

from __future__ import annotations

from dataclasses import dataclass

from seralign.intervals import Interval


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs that a policy prefers with a probability from ``low`` to ``high``: the mean of it, and the share of the
    pairs in which the preferred response is the better one by the label."""

    low: float
    high: float
    predicted: float
    observed: Interval


@dataclass(frozen=True, slots=True)
class CalibrationFigures:
    """Implied probabilities of preference against labels (``seralign.evaluation.calibration``).

    Args:
        brier: Mean squared difference of probability and label.
        ece: Expected calibration error: mean difference of probability and label over the bins, weighted by pairs.
        bins: Those that hold a pair.
    """

    brier: Interval
    ece: float
    bins: tuple[ReliabilityBin, ...]

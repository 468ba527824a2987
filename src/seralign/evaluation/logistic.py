"""Logistic regression with soft outcomes on several weightings of the same rows at once. Pure.

Dimension letters: N rows, B weightings, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDS, _EXACT, _LONGEST = 50, 1e-7, 2.0


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal prior of a coefficient; ``precision`` is the inverse of its variance."""

    mean: float
    precision: float


def fit_logistic(
    columns: Sequence[np.ndarray],
    better: np.ndarray,
    weights: np.ndarray,
    priors: Sequence[Normal],
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Coefficients [B, C] that maximise the posterior, by Newton steps.

    Args:
        columns: C columns, each [N], or [B, N] if it depends on the weighting.
        better: Outcomes in [0, 1] [N].
        weights: [B, N].
        priors: Of the C coefficients. They also make the solution finite.
        start: Where the steps begin [1, C]; by default at the means of the priors.
    """
    mean, precision = (np.array([getattr(prior, name) for prior in priors]) for name in ("mean", "precision"))
    columns = [np.atleast_2d(column) for column in columns]
    found, size = np.repeat(mean[None] if start is None else start, len(weights), 0), len(columns)
    for _ in range(_ROUNDS):
        odds = sum(found[:, [at]] * column for at, column in enumerate(columns))
        chance = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
        slope, curve = weights * (better - chance), weights * chance * (1 - chance)
        gradient = np.stack([(slope * column).sum(1) for column in columns], 1) - precision * (found - mean)
        hessian = np.zeros((len(weights), size, size)) + np.diag(precision)
        for row in range(size):
            weighted = curve * columns[row]
            for column in range(row + 1):
                hessian[:, row, column] += (weighted * columns[column]).sum(1)
                hessian[:, column, row] = hessian[:, row, column]
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        found = found + np.clip(step, -_LONGEST, _LONGEST)
        if np.abs(step).max() < _EXACT:
            break
    return found

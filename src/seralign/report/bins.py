"""Margins in bars: their edges, and how many are in each."""

from __future__ import annotations

import math

import numpy as np

BINS = 36
# Share of the pairs at each end that is moved to the edge, so that a few far ones do not squeeze all others.
TAIL = 0.002


def bin_edges(margins: np.ndarray) -> np.ndarray:
    """Edges of some ``BINS`` bars of a round width; 0 is one of them where it is inside."""
    low, high = np.quantile(margins, [TAIL, 1 - TAIL])
    least = max(float(high - low) / BINS, 1e-6)
    unit = 10.0 ** math.floor(math.log10(least))
    width = next(step * unit for step in (1, 2, 2.5, 5, 10) if step * unit >= 0.999 * least)
    first, last = math.floor(low / width), math.ceil(high / width)
    return width * np.arange(first, max(last, first + 1) + 1)


def bin_counts(margins: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How many margins are in each bar; the outermost hold all that is further out."""
    return np.histogram(np.clip(margins, edges[0], edges[-1]), edges)[0]


def outermost(edges: np.ndarray) -> tuple[float, float]:
    """The first and the last edge."""
    return float(edges[0]), float(edges[-1])

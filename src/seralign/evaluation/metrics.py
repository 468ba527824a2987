"""Figures of a policy from plain arrays: diversity, repetition, agreement with labels.

Dimension letters: N values, one for each prompt or pair. An undefined figure (no values, a constant) is ``None``, never
NaN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from seralign.intervals import finite


def ranked_right(margins: ArrayLike) -> np.ndarray:
    """For each pair 1 if its margin is above zero, 0 if below, 1/2 for a tie [N].

    A soft label counts like a hard one: only which response is the chosen one matters. Training's
    ``rewards/accuracies`` and all other accuracies are defined like this.

    Raises:
        ValueError: A margin is not finite.
    """
    return 0.5 + 0.5 * np.sign(finite(margins, "margins"))


def margin_accuracy(margins: ArrayLike) -> float | None:
    """The mean of ``ranked_right``: the share of pairs with a margin above zero, ties counting half. ``None`` without
    margins."""
    found = ranked_right(margins)
    return float(np.mean(found)) if found.size else None


def distinct_n(sequences: Sequence[Sequence[int]], n: int) -> float | None:
    """Number of distinct n-grams over number of n-grams in all sequences (1510.03055); ``None`` without any."""
    grams = [gram for sequence in sequences for gram in _ngrams(sequence, n)]
    return len(set(grams)) / len(grams) if grams else None


def repetition(sequences: Sequence[Sequence[int]], n: int = 4) -> float | None:
    """Share of token sequences with a repeated n-gram; ``None`` without sequences."""
    repeated = [len(set(grams)) < len(grams) for grams in (_ngrams(sequence, n) for sequence in sequences)]
    return sum(repeated) / len(repeated) if repeated else None


def similarity(a: Sequence[int], b: Sequence[int], n: int = 2) -> float | None:
    """Share of n-grams that two token sequences have in common, 2 |A & B| / (|A| + |B|), with multiplicity (Dice 1945).
    1 for equal sequences; ``None`` if neither has an n-gram."""
    grams_a, grams_b = Counter(_ngrams(a, n)), Counter(_ngrams(b, n))
    total = grams_a.total() + grams_b.total()
    return 2 * (grams_a & grams_b).total() / total if total else None


def _ngrams(sequence: Sequence[int], n: int) -> list[tuple[int, ...]]:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return [tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]

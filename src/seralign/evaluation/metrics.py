"""Figures of a policy from plain arrays: diversity, repetition, agreement with labels.

Dimension letters: N values, one for each prompt or pair. An undefined figure (no values, a constant) is ``None``, never
NaN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

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


def distinct_n(sequences: Sequence[Sequence[Hashable]], n: int) -> float | None:
    """Number of distinct n-grams over number of n-grams in all sequences (1510.03055); ``None`` without any."""
    grams = [gram for sequence in sequences for gram in _ngrams(sequence, n)]
    return len(set(grams)) / len(grams) if grams else None


def repetition(sequences: Sequence[Sequence[Hashable]], n: int = 4) -> float | None:
    """Share of token sequences with a repeated n-gram; ``None`` without sequences."""
    repeated = [len(set(grams)) < len(grams) for grams in (_ngrams(sequence, n) for sequence in sequences)]
    return sum(repeated) / len(repeated) if repeated else None


def self_bleu(sequences: Sequence[Sequence[Hashable]], n: int = 4, most: int = 500) -> float | None:
    """Mean BLEU of each sequence of tokens or words with all others as references (Texygen, 1802.01886): how alike they
    are, from 0 to 1. ``None`` with fewer than two sequences that have a token.

    BLEU is the geometric mean of the clipped precisions of 1-grams to n-grams (to m-grams for a sequence of m < n
    tokens), times the brevity penalty against the closest length, without smoothing: 0 if a precision is 0. It grows
    with the number of sequences; of more than ``most``, the first are taken.

    By hand, n = 2: of (1, 2, 3) with (1, 2, 4) as the reference, two of three 1-grams and one of two 2-grams are there:
    sqrt(2/3 * 1/2) = 0.577. Both are equally long, and the other way round it is the same.
    """
    kept = [tuple(sequence) for sequence in sequences if len(sequence)][:most]
    if len(kept) < 2:
        return None
    logs, orders = np.zeros(len(kept)), np.array([min(n, len(sequence)) for sequence in kept])
    for size in range(1, n + 1):
        counts = [Counter(_ngrams(sequence, size)) for sequence in kept]
        first, second = Counter[tuple[Hashable, ...]](), Counter[tuple[Hashable, ...]]()
        for own in counts:
            for gram, count in own.items():
                high, low = max(count, first[gram]), min(count, first[gram])
                first[gram], second[gram] = high, max(second[gram], low)
        for place, own in enumerate(counts):
            if not own:
                continue
            # The most that another sequence has: the second highest count where this one has the highest.
            most_of_others = (
                (count, second[gram] if count == first[gram] else first[gram]) for gram, count in own.items()
            )
            found = sum(min(pair) for pair in most_of_others)
            logs[place] += np.log(found / own.total()) / orders[place] if found else -np.inf
    lengths = np.array([len(sequence) for sequence in kept])
    penalties = [_brevity(place, lengths) for place in range(len(kept))]
    return float(np.mean(np.exp(logs) * penalties))


def _brevity(place: int, lengths: np.ndarray) -> float:
    """The penalty of a sequence that is shorter than the one of the others that is closest in length."""
    others, own = np.delete(lengths, place), lengths[place]
    closest = others[np.lexsort((others, np.abs(others - own)))[0]]
    return 1.0 if own >= closest else float(np.exp(1 - closest / own))


def similarity(a: Sequence[int], b: Sequence[int], n: int = 2) -> float | None:
    """Share of n-grams that two token sequences have in common, 2 |A & B| / (|A| + |B|), with multiplicity (Dice 1945).
    1 for equal sequences; ``None`` if neither has an n-gram."""
    grams_a, grams_b = Counter(_ngrams(a, n)), Counter(_ngrams(b, n))
    total = grams_a.total() + grams_b.total()
    return 2 * (grams_a & grams_b).total() / total if total else None


def _ngrams(sequence: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return [tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]

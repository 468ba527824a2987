"""Figures against hand-worked values, scipy, and coverage by simulation."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from seralign.evaluation.metrics import (
    distinct_n,
    margin_accuracy,
    repetition,
    self_bleu,
    similarity,
)
from seralign.intervals import correlation

VALUES = st.lists(st.integers(-50, 50).map(float), min_size=2, max_size=40)


@given(VALUES, st.integers(0, 1000))
def test_correlation_is_scipys(x: list[float], seed: int) -> None:
    y = np.random.default_rng(seed).normal(size=len(x))
    if len(set(x)) == 1:
        assert correlation(x, y) is None
    else:
        assert correlation(x, y) == pytest.approx(scipy.stats.pearsonr(x, y)[0], abs=1e-12)


def test_correlation_by_hand() -> None:
    """x = 0, 1, 2 and y = 0, 2, 1: deviations -1, 0, 1 and -1, 1, 0; 1 / (sqrt 2 sqrt 2) = 1/2."""
    assert correlation([0, 1, 2], [0, 2, 1]) == pytest.approx(0.5)
    assert correlation([1, 2], [5, 3]) == pytest.approx(-1)
    assert correlation([0.1] * 7, range(7)) is None
    assert correlation(range(7), [0.1] * 7) is None
    assert correlation([1], [2]) is None
    assert correlation([], []) is None
    with pytest.raises(ValueError, match="got 2 and 1"):
        correlation([1, 2], [1])


def test_margin_accuracy_by_hand() -> None:
    assert margin_accuracy([2.0, 1e-9, 0.0, -1.0]) == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert margin_accuracy([]) is None
    with pytest.raises(ValueError, match="margins must be finite"):
        margin_accuracy([math.nan])


@given(VALUES)
def test_accuracy_is_what_a_labeller_of_the_other_mind_lacks(margins: list[float]) -> None:
    accuracy, turned = margin_accuracy(margins), margin_accuracy([-margin for margin in margins])
    assert (accuracy is None) is (not margins)
    if accuracy is not None and turned is not None:
        assert accuracy + turned == pytest.approx(1.0)


def test_distinct_by_hand() -> None:
    """1 2 1 2 has bigrams 12, 21, 12; 2 1 has 21: two different of four. Unigrams: 1, 2, 7 of seven."""
    sequences = [[1, 2, 1, 2], [2, 1], [7], []]
    assert distinct_n(sequences, 2) == 2 / 4
    assert distinct_n(sequences, 1) == 3 / 7
    assert distinct_n([[1], [2]], 2) is None
    assert distinct_n([], 2) is None
    with pytest.raises(ValueError, match="n must be at least 1"):
        distinct_n([[1]], 0)


def test_repetition_by_hand() -> None:
    """1 2 3 4 1 2 3 4 says 1 2 3 4 twice, five equal tokens say 1 1 1 1 twice, the others nothing."""
    sequences = [[1, 2, 3, 4, 1, 2, 3, 4], [1, 1, 1, 1, 1], [1, 2, 3, 4, 1, 2, 3], []]
    assert repetition(sequences) == 2 / 4
    assert repetition(sequences, n=3) == 3 / 4
    assert repetition([]) is None


def test_similarity_by_hand() -> None:
    """12 23 34 and 12 24 42 have one bigram in common, 12 23 34 and 23 31 12 two, of six together."""
    assert similarity([1, 2, 3, 4], [1, 2, 4, 2]) == pytest.approx(2 / 6)
    assert similarity([1, 2, 3, 4], [2, 3, 1, 2]) == pytest.approx(4 / 6)
    # 11 twice and three times: twice in common.
    assert similarity([1, 1, 1], [1, 1, 1, 1]) == pytest.approx(4 / 5)
    assert similarity([1, 2, 3], [1, 2, 3]) == 1.0
    assert similarity([1, 2], [2, 1]) == 0.0
    assert similarity([1, 2], []) == 0.0
    assert similarity([1], []) is None
    assert similarity([1, 2], [3, 1], n=1) == pytest.approx(2 / 4)


@given(*[st.lists(st.integers(0, 3), max_size=12)] * 2)
def test_similarity_is_symmetric_and_a_share(a: list[int], b: list[int]) -> None:
    value = similarity(a, b)
    assert value == similarity(b, a)
    assert value is None or 0.0 <= value <= 1.0
    assert similarity(a, a) in (None, 1.0)


def test_self_bleu_by_hand() -> None:
    """Two of three words and one of two bigrams; a copy has 1; nothing in common has 0; a shorter one is punished."""
    assert self_bleu([(1, 2, 3), (1, 2, 4)], 2) == pytest.approx(math.sqrt(2 / 3 / 2))
    assert self_bleu([(1, 2, 3, 4, 5)] * 3) == pytest.approx(1)
    assert self_bleu([(1, 2, 3), (4, 5, 6)]) == 0
    # The first: both precisions 1, exp(1 - 4/2). The second: 2/4 and 1/3, no penalty.
    assert self_bleu([(1, 2), (1, 2, 3, 4)], 2) == pytest.approx((math.exp(-1) + math.sqrt(1 / 2 / 3)) / 2)
    # Clipped: of 1 1 1, two are in the other sequence, and all of 1 1 are.
    assert self_bleu([(1, 1, 1), (1, 1)], 1) == pytest.approx((2 / 3 + math.exp(1 - 3 / 2)) / 2)
    assert self_bleu([(7,), (7,)]) == 1
    assert self_bleu([(1, 2), ()]) is None
    assert self_bleu([]) is None


def test_self_bleu_is_the_slow_definition() -> None:
    """Every sequence against each of the others, n-gram by n-gram."""
    rng = np.random.default_rng(0)
    sequences = [tuple(rng.integers(0, 4, rng.integers(5, 12)).tolist()) for _ in range(9)]
    found = []
    for at, own in enumerate(sequences):
        others = sequences[:at] + sequences[at + 1 :]
        precisions = []
        for n in (1, 2, 3):
            grams = [own[i : i + n] for i in range(len(own) - n + 1)]
            held = 0
            for gram in set(grams):
                best = max(sum(other[i : i + n] == gram for i in range(len(other))) for other in others)
                held += min(best, grams.count(gram))
            precisions.append(held / len(grams))
        closest = min(others, key=lambda other: (abs(len(other) - len(own)), len(other)))
        penalty = min(1.0, math.exp(1 - len(closest) / len(own)))
        found.append(penalty * np.prod(precisions) ** (1 / 3))
    assert self_bleu(sequences, 3) == pytest.approx(np.mean(found))
    assert self_bleu(sequences, 3, most=5) == self_bleu(sequences[:5], 3)

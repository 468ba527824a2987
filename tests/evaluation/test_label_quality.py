"""Figures of why a method works, by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.evaluation.label_quality import (
    GeneratedFigures,
    LabelFigures,
    MarginFigures,
    generated_figures,
    label_figures,
    margin_figures,
    selection_figures,
)


def test_label_figures_by_hand() -> None:
    """Of five pairs two are right, two wrong and one a tie; two labels are noise; the mean is (2 + 1 - 1 - 3) / 5."""
    assert label_figures([2, 1, 0, -1, -3], [False, True, False, True, False], [1, 2, 3, 4, 5]) == LabelFigures(
        pairs=5,
        flip_rate=0.4,
        gold_right=0.4,
        gold_wrong=0.4,
        gold_tie=0.2,
        gold_difference=pytest.approx(-0.2),  # pyright: ignore
        length_difference=3.0,
    )


def test_selection_figures_by_hand() -> None:
    """Pairs 0, 1 and 3 are kept: one flip in three, after two in four."""
    figures = selection_figures([True, True, False, True], [1, 2, -1, -4], [0, 0, 1, 1], [3, -1, 10, 4])
    assert figures.all == label_figures([1, 2, -1, -4], [0, 0, 1, 1], [4, 4, 4, 4])
    assert figures.kept == label_figures([1, 2, -4], [0, 0, 1], [2, 2, 2])
    assert figures.flip_ratio == pytest.approx((1 / 3) / (1 / 2))


def test_ratios_without_a_base_are_none() -> None:
    assert selection_figures([True, False], [1, 1], [0, 0], [0, 0]).flip_ratio is None
    nothing = selection_figures([False, False], [1, 1], [0, 1], [0, 0])
    assert nothing.flip_ratio is None
    assert nothing.kept.pairs == 0
    assert nothing.kept.flip_rate is None


def test_generated_figures_by_hand() -> None:
    assert generated_figures([1.0, 0.0, 0.5, 0.5], [0.0, 1.0, 0.5, 0.0], [2, 2, -4, 8]) == GeneratedFigures(
        pairs=4,
        gold_right=0.5,
        gold_wrong=0.25,
        gold_tie=0.25,
        gold_difference=0.125,
        gold_chosen=0.5,
        gold_rejected=0.375,
        length_difference=2.0,
        chosen_longer=0.75,
    )


def test_margin_figures_by_hand() -> None:
    """Gold accuracy: of the three pairs with a gold difference, one agrees, one does not and one margin is 0. Flips:
    the honest margins 2, -1, 0 against the flipped 0: one above, one below, one tie."""
    margins, gold, length, flipped = [2.0, 0.0, -1.0, 0.0], [1, 1, 3, 0], [4, 0, -2, 0], [False, True, False, False]
    figures = margin_figures(margins, gold, length, flipped)
    assert figures.gold_accuracy == pytest.approx((1 + 0.5 + 0) / 3)
    assert figures.flip_auc == pytest.approx((1 + 0.5 + 0) / 3)
    assert figures.margin_length_correlation == pytest.approx(np.corrcoef(margins, length)[0, 1])
    assert figures.margin_gold_correlation == pytest.approx(np.corrcoef(margins, gold)[0, 1])
    assert figures.gold_length_correlation == pytest.approx(np.corrcoef(gold, length)[0, 1])
    assert margin_figures(margins, gold, length).flip_auc is None
    assert margin_figures(margins, gold, length, [False] * 4).flip_auc is None


def test_no_pairs_have_no_figures() -> None:
    assert margin_figures([], [], [], []) == MarginFigures(None, None, None, None, None)
    assert generated_figures([], [], []).gold_right is None


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=20))
def test_flip_auc_is_the_share_of_couples(pairs: list[tuple[int, bool]]) -> None:
    margins, flipped = zip(*pairs, strict=True)
    couples = [
        (a > b) + (a == b) / 2
        for (a, a_flipped), (b, b_flipped) in itertools.product(pairs, pairs)
        if b_flipped and not a_flipped
    ]
    found = margin_figures(margins, [0] * len(pairs), [0] * len(pairs), flipped).flip_auc
    assert found == (pytest.approx(np.mean(couples)) if couples else None)


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        label_figures([1, 2], [True], [1, 2])
    with pytest.raises(ValueError, match="equally long"):
        margin_figures([1.0], [1], [1], [True, False])

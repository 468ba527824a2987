"""How many labels are right among pairs whose gold reward is known. Pure: arrays in, figures out.

Dimension letters: N pairs, all arrays in the same order. ``gold_difference`` is the gold reward of the chosen response
minus that of the rejected one, and ``length_difference`` the same for tokens. An undefined figure is ``None``, never
NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from seralign.intervals import correlation


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """How many labels of some pairs are right.

    Args:
        pairs: Number of pairs; a mean over runs need not be whole.
        flip_rate: Share of labels that are noise.
        gold_right: Share of pairs whose chosen response is better by gold.
        gold_wrong: Share of pairs whose chosen response is worse.
        gold_tie: Share of pairs whose responses are equally good.
        gold_difference: Its mean.
        length_difference: Its mean, in tokens.
    """

    pairs: float
    flip_rate: float | None
    gold_right: float | None
    gold_wrong: float | None
    gold_tie: float | None
    gold_difference: float | None
    length_difference: float | None


@dataclass(frozen=True, slots=True)
class SelectionFigures:
    """Labels before and after a selection; ``flip_ratio`` is the flip rate of the kept over that of all."""

    all: LabelFigures
    kept: LabelFigures
    flip_ratio: float | None


@dataclass(frozen=True, slots=True)
class GeneratedFigures:
    """How many of some generated pairs are right: as ``LabelFigures``, with the mean gold of both responses.

    ``chosen_longer`` is the share of the pairs whose chosen response is the longer one, equal ones half.
    """

    pairs: float
    gold_right: float | None
    gold_wrong: float | None
    gold_tie: float | None
    gold_difference: float | None
    gold_chosen: float | None
    gold_rejected: float | None
    length_difference: float | None
    chosen_longer: float | None


@dataclass(frozen=True, slots=True)
class MarginFigures:
    """How the margins of some pairs relate to the truth.

    Args:
        margin_gold_correlation: Pearson's.
        margin_length_correlation: Pearson's.
        gold_length_correlation: Pearson's.
        gold_accuracy: Share of the pairs with a gold difference whose margin has its sign; margins of zero count half.
        flip_auc: Probability that a pair's margin is above that of a pair with a flipped label, ties half (0.5: the
            margin does not tell them apart). None where it is not known which labels are flipped.
    """

    margin_gold_correlation: float | None
    margin_length_correlation: float | None
    gold_length_correlation: float | None
    gold_accuracy: float | None
    flip_auc: float | None


def label_figures(gold_difference: ArrayLike, flipped: ArrayLike, length_difference: ArrayLike) -> LabelFigures:
    """How many labels of N pairs are right.

    Args:
        gold_difference: [N].
        flipped: Whether the label is noise [N].
        length_difference: [N] tokens.

    Raises:
        ValueError: The arrays are not equally long.
    """
    gold, noise, length = _together(gold_difference, flipped, length_difference)
    right, wrong, tie = _right(gold)
    return LabelFigures(gold.size, _mean(noise != 0), right, wrong, tie, _mean(gold), _mean(length))


def selection_figures(
    kept: ArrayLike, gold_difference: ArrayLike, flipped: ArrayLike, length_difference: ArrayLike
) -> SelectionFigures:
    """How many labels are right among N pairs, before and after a selection.

    Args:
        kept: Whether the pair was kept [N].
        gold_difference: [N].
        flipped: Whether the label is noise [N].
        length_difference: [N] tokens.

    Raises:
        ValueError: The arrays are not equally long.
    """
    keep, gold, noise, length = _together(kept, gold_difference, flipped, length_difference)
    everything, some = label_figures(gold, noise, length), keep != 0
    left = label_figures(gold[some], noise[some], length[some])
    base, rate = everything.flip_rate, left.flip_rate
    return SelectionFigures(everything, left, rate / base if base and rate is not None else None)


def generated_figures(
    gold_chosen: ArrayLike, gold_rejected: ArrayLike, length_difference: ArrayLike
) -> GeneratedFigures:
    """How many of N generated pairs are right.

    Raises:
        ValueError: The arrays are not equally long.
    """
    chosen, rejected, length = _together(gold_chosen, gold_rejected, length_difference)
    longer = (np.sign(length) + 1) / 2
    means = (_mean(chosen - rejected), _mean(chosen), _mean(rejected), _mean(length), _mean(longer))
    return GeneratedFigures(chosen.size, *_right(chosen - rejected), *means)


def margin_figures(
    margins: ArrayLike, gold_difference: ArrayLike, length_difference: ArrayLike, flipped: ArrayLike | None = None
) -> MarginFigures:
    """How the margins of N pairs relate to the truth.

    Args:
        margins: [N] nats.
        gold_difference: [N].
        length_difference: [N] tokens.
        flipped: Whether the label is noise [N]; without it there is no ``flip_auc``.

    Raises:
        ValueError: The arrays are not equally long, or a value is not finite.
    """
    margin, gold, length = _together(margins, gold_difference, length_difference)
    differ = gold != 0
    agreement = 0.5 + 0.5 * np.sign(margin[differ]) * np.sign(gold[differ])
    return MarginFigures(
        margin_gold_correlation=correlation(margin, gold),
        margin_length_correlation=correlation(margin, length),
        gold_length_correlation=correlation(gold, length),
        gold_accuracy=_mean(agreement),
        flip_auc=None if flipped is None else _auc(*_together(margin, flipped)),
    )


def _auc(margin: np.ndarray, flipped: np.ndarray) -> float | None:
    """Mann and Whitney's U over all couples of an honest and a flipped label."""
    honest, noise = margin[flipped == 0], np.sort(margin[flipped != 0])
    if not honest.size or not noise.size:
        return None
    below, not_above = np.searchsorted(noise, honest, "left"), np.searchsorted(noise, honest, "right")
    return float((below + not_above).mean() / (2 * noise.size))


def _right(gold: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Shares of right pairs, wrong ones and ties."""
    return _mean(gold > 0), _mean(gold < 0), _mean(gold == 0)


def _together(*arrays: ArrayLike) -> tuple[np.ndarray, ...]:
    found = tuple(np.asarray(array, dtype=np.float64) for array in arrays)
    if any(array.ndim != 1 or array.shape != found[0].shape for array in found):
        raise ValueError(f"arrays must be equally long, one value a pair, got shapes {[a.shape for a in found]}")
    return found


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None

"""How many labels are right among pairs whose gold reward is known. Pure: arrays in, figures out.

Dimension letters: N pairs, all arrays in the same order. ``gold_difference`` is the gold reward of the chosen response
minus that of the rejected one, and ``length_difference`` the same for tokens. An undefined figure is ``None``, never
NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from seralign.intervals import correlation


def label_figures(gold_difference: ArrayLike, flipped: ArrayLike) -> dict[str, Any]:
    """How many labels of N pairs are right.

    Args:
        gold_difference: [N].
        flipped: Whether the label is noise [N].

    Returns:
        ``pairs``; ``flip_rate``; ``gold_right``, ``gold_wrong`` and ``gold_tie``, the shares of pairs whose chosen
        response is better, worse, or as good by gold; ``gold_difference``, its mean.

    Raises:
        ValueError: The arrays are not equally long.
    """
    gold, noise = _together(gold_difference, flipped)
    return {"pairs": gold.size, "flip_rate": _mean(noise != 0), **_right(gold)}


def selection_figures(
    kept: ArrayLike, gold_difference: ArrayLike, flipped: ArrayLike, length_difference: ArrayLike
) -> dict[str, Any]:
    """How many labels are right among N pairs, before and after a selection.

    Args:
        kept: Whether the pair was kept [N].
        gold_difference: [N].
        flipped: Whether the label is noise [N].
        length_difference: [N] tokens.

    Returns:
        ``all`` and ``kept``, each ``label_figures`` with the mean ``length_difference``; ``flip_ratio``, the flip
        rate of the kept over that of all.

    Raises:
        ValueError: The arrays are not equally long.
    """
    keep, gold, noise, length = _together(kept, gold_difference, flipped, length_difference)
    found = {
        name: label_figures(gold[rows], noise[rows]) | {"length_difference": _mean(length[rows])}
        for name, rows in (("all", keep == keep), ("kept", keep != 0))
    }
    base, rate = found["all"]["flip_rate"], found["kept"]["flip_rate"]
    return {**found, "flip_ratio": rate / base if base and rate is not None else None}


def generated_figures(gold_chosen: ArrayLike, gold_rejected: ArrayLike, length_difference: ArrayLike) -> dict[str, Any]:
    """How many of N generated pairs are right.

    Returns:
        ``pairs``; ``gold_right``, ``gold_wrong``, ``gold_tie``, ``gold_difference`` as ``label_figures``; the
        means ``gold_chosen``, ``gold_rejected`` and ``length_difference``; ``chosen_longer``, the share of the pairs
        whose chosen response is the longer one, equal ones half.

    Raises:
        ValueError: The arrays are not equally long.
    """
    chosen, rejected, length = _together(gold_chosen, gold_rejected, length_difference)
    means = {"gold_chosen": _mean(chosen), "gold_rejected": _mean(rejected), "length_difference": _mean(length)}
    means["chosen_longer"] = _mean((np.sign(length) + 1) / 2)
    return {"pairs": chosen.size, **_right(chosen - rejected), **means}


def margin_figures(
    margins: ArrayLike, gold_difference: ArrayLike, length_difference: ArrayLike, flipped: ArrayLike | None = None
) -> dict[str, Any]:
    """How the margins of N pairs relate to the truth.

    Args:
        margins: [N] nats.
        gold_difference: [N].
        length_difference: [N] tokens.
        flipped: Whether the label is noise [N]; without it there is no ``flip_auc``.

    Returns:
        Pearson's ``margin_gold_correlation``, ``margin_length_correlation`` and ``gold_length_correlation``;
        ``gold_accuracy``, the share of the pairs with a gold difference whose margin has its sign, margins of zero
        counted half; ``flip_auc``, the probability that a pair's margin is above that of a pair with a flipped label,
        ties half (0.5: the margin does not tell them apart).

    Raises:
        ValueError: The arrays are not equally long, or a value is not finite.
    """
    margin, gold, length = _together(margins, gold_difference, length_difference)
    told = gold != 0
    agreement = 0.5 + 0.5 * np.sign(margin[told]) * np.sign(gold[told])
    return {
        "margin_gold_correlation": correlation(margin, gold),
        "margin_length_correlation": correlation(margin, length),
        "gold_length_correlation": correlation(gold, length),
        "gold_accuracy": _mean(agreement),
        "flip_auc": None if flipped is None else _auc(*_together(margin, flipped)),
    }


def _auc(margin: np.ndarray, flipped: np.ndarray) -> float | None:
    """Mann and Whitney's U over all couples of an honest and a flipped label."""
    honest, noise = margin[flipped == 0], np.sort(margin[flipped != 0])
    if not honest.size or not noise.size:
        return None
    below, not_above = np.searchsorted(noise, honest, "left"), np.searchsorted(noise, honest, "right")
    return float((below + not_above).mean() / (2 * noise.size))


def _right(gold_difference: np.ndarray) -> dict[str, Any]:
    shares = {"gold_right": gold_difference > 0, "gold_wrong": gold_difference < 0, "gold_tie": gold_difference == 0}
    return {name: _mean(share) for name, share in shares.items()} | {"gold_difference": _mean(gold_difference)}


def _together(*arrays: ArrayLike) -> tuple[np.ndarray, ...]:
    found = tuple(np.asarray(array, dtype=np.float64) for array in arrays)
    if any(array.ndim != 1 or array.shape != found[0].shape for array in found):
        raise ValueError(f"arrays must be equally long, one value a pair, got shapes {[a.shape for a in found]}")
    return found


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None

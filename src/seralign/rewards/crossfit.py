"""Soft labels from margins under policies that were not trained on the pair. Pure.

Legend: N pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

# Beyond so many doublings, every label is certain in floating point.
_DOUBLINGS = 40
_HALVINGS = 80


def folds(prompts: Sequence[Hashable], count: int, seed: int) -> np.ndarray:
    """The fold [N], 0 to ``count`` - 1, of each pair. All pairs of a prompt are in the same fold, and the numbers of
    prompts in the folds differ by at most one.

    Args:
        prompts: The prompt of each pair, as any hashable value [N].
        count: Number of folds.
        seed: Seed of the draw.
    """
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    of_prompt = np.random.default_rng(seed).permutation(len(numbers)) % count
    return of_prompt[[numbers[prompt] for prompt in prompts]].astype(np.int64)


def calibrate(margins: np.ndarray, p: np.ndarray) -> float:
    """The scale a >= 0 with which sigmoid(a h) fits the labels best, by maximum likelihood.

    This is logistic regression of the labels on the margin alone: Platt scaling without an intercept, so that a swapped
    pair gets 1 - p. It only sets the temperature. Margins of pairs that the policy was trained on would give labels
    that are far too certain.

    Args:
        margins: h in nats [N], under policies that were not trained on the pair.
        p: Probability in the data that the chosen response is better [N].

    Returns:
        The scale; 0 if the margins do not predict the labels, or predict the opposite.
    """

    def slope(scale: float) -> float:
        return float(np.sum(margins * (p - _sigmoid(scale * margins))))

    if slope(0.0) <= 0.0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_DOUBLINGS):
        if slope(high) <= 0.0:
            break
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0.0 else (low, middle)
    return (low + high) / 2


def soft_labels(margins: np.ndarray, p: np.ndarray, scale: float, trust: float) -> np.ndarray:
    """Probability [N] that the chosen response is better: logit = a h + logit(trust p + (1 - trust)(1 - p)).

    It combines two sources of evidence: the margin, and the label of the data, which is right with probability
    ``trust``. At 1/2 the label has no effect; at 1 a hard label decides alone. A result below 1/2 means that the
    rejected response is better.

    Args:
        margins: h in nats [N], under policies that were not trained on the pair.
        p: The label of the data [N].
        scale: a from ``calibrate``.
        trust: In [0.5, 1].
    """
    witness = trust * p + (1 - trust) * (1 - p)
    with np.errstate(divide="ignore"):
        return _sigmoid(scale * margins + np.log(witness) - np.log1p(-witness))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))

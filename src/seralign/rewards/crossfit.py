"""Soft labels from margins under policies that have not seen the pair. Pure.

Legend: N pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

# A doubling further, every label that a float can tell from certainty is certain.
_DOUBLINGS = 40
_HALVINGS = 80


def folds(prompts: Sequence[Hashable], count: int, seed: int) -> np.ndarray:
    """The fold [N], 0 to ``count`` - 1, of each pair: all pairs of a prompt are in one, and folds have as many prompts
    each, give or take one.

    Args:
        prompts: The prompt of each pair, as anything that can be compared [N].
        count: Number of folds.
        seed: Of the draw.
    """
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    of_prompt = np.random.default_rng(seed).permutation(len(numbers)) % count
    return of_prompt[[numbers[prompt] for prompt in prompts]].astype(np.int64)


def calibrate(margins: np.ndarray, p: np.ndarray) -> float:
    """The scale a >= 0 with which sigmoid(a h) says best what the labels are, by maximum likelihood.

    Logistic regression of the labels on the margin alone (Platt scaling without an intercept, so that a swapped pair
    gets 1 - p). It is a temperature and no vote: on pairs that the policy has seen it would be far too sure.

    Args:
        margins: h in nats [N], under policies that were not trained on the pair.
        p: Probability that the chosen response is the better one, as the data say [N].

    Returns:
        0 where the margins tell nothing of the labels, or the opposite.
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
    """Probability [N] that the chosen response is the better one: logit = a h + logit(trust p + (1 - trust)(1 - p)).

    The margin is one witness, the label that the data give another, who is right with probability ``trust``; at 1/2
    the label says nothing, at 1 a hard label is all that counts. Where the result is below 1/2 the rejected response is
    the better one.

    Args:
        margins: h in nats [N], under policies that were not trained on the pair.
        p: The label of the data [N].
        scale: a of ``calibrate``.
        trust: In [0.5, 1].
    """
    witness = trust * p + (1 - trust) * (1 - p)
    with np.errstate(divide="ignore"):
        return _sigmoid(scale * margins + np.log(witness) - np.log1p(-witness))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))

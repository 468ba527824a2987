"""Removes the part of rewards that the length of responses explains. Pure.

A policy trained on the preferences of people who like long answers rewards length, and so selects and generates longer
answers still. The slope on pairs from other sources does not apply to a policy's own samples, where it can even have
the other sign. So both have their own slope.

Dimension letters: N pairs or responses, P prompts, R largest number of responses to a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

_BISECTIONS = 60


def length_slope(margins: np.ndarray, longer: np.ndarray, p: np.ndarray) -> float:
    """The slope b of the margin on the length difference, at equal labels.

    Least squares of h on the label 2 p - 1 and on d; swapping a pair does not change it. A policy prefers what it was
    trained to prefer. Without the label as a regressor, preferred answers that happen to be longer would look like a
    preference for length, and the correction would prefer short answers. With hard labels b is the usual slope with an
    intercept, and h - b d is uncorrelated with d.

    Args:
        margins: h in nats [N].
        longer: d, tokens of the chosen minus tokens of the rejected response [N].
        p: Probability that the chosen response is better [N].

    Returns:
        Nats a token; 0 if length varies only with the label.
    """
    label = 2 * p - 1
    weight = float(label @ label)
    own = longer - label * (float(label @ longer) / weight) if weight else longer
    squares = float(own @ own)
    return float(margins @ own) / squares if squares > 1e-9 * float(longer @ longer) else 0.0


def slope_within(groups: Sequence[Sequence[int] | np.ndarray], rewards: np.ndarray, lengths: np.ndarray) -> float:
    """The slope of the reward on the length among responses to the same prompt.

    Least squares of rewards on lengths, both minus their mean for the prompt, so differences between prompts have no
    effect. It needs no labels, because it only uses the responses themselves.

    Args:
        groups: The responses to each prompt, as places in the arrays.
        rewards: In nats [N].
        lengths: In tokens [N].

    Returns:
        Nats a token; 0 if all responses to a prompt have the same length.

    For example, lengths 1, 3 with rewards 2, 6 and lengths 5, 9 with rewards 0, 2 are, minus their means, -1, 1 with
    -2, 2 and -2, 2 with -1, 1: (2 + 2 + 2 + 2) / (1 + 1 + 4 + 4) = 0.8.
    """
    length, reward = (_less_means(groups, values) for values in (lengths, rewards))
    squares = float(length @ length)
    return float(reward @ length) / squares if squares > 0 else 0.0


def balancing_slope(groups: Sequence[Sequence[int] | np.ndarray], rewards: np.ndarray, lengths: np.ndarray) -> float:
    """The penalty a, in nats a token, at which the best responses are on average as long as the worst (DICE,
    2406.09760: length-regularised rewards).

    D(a) is the mean over prompts of the length of the response with the largest reward - a length, minus the length of
    the one with the smallest. It falls in steps as a rises, so bisection finds where it changes sign, and the result is
    the neighbouring a with the least |D(a)|. DICE searches a grid of positive penalties; here a policy that prefers
    short answers gets a negative one.

    Args:
        groups: The responses to each prompt, as places in the arrays.
        rewards: In nats [N].
        lengths: In tokens [N].

    Returns:
        Nats a token; 0 if the best are as long as the worst without a penalty.
    """
    if not groups:
        return 0.0
    reward, length = _padded(groups, rewards), _padded(groups, lengths)
    start = _difference(reward, length, 0.0)
    if start == 0.0:
        return 0.0
    sign = 1.0 if start > 0 else -1.0
    near, far = 0.0, 1.0
    while sign * _difference(reward, length, sign * far) > 0:
        near, far = far, 2 * far
    for _ in range(_BISECTIONS):
        middle = (near + far) / 2
        near, far = (middle, far) if sign * _difference(reward, length, sign * middle) > 0 else (near, middle)
    left = [abs(_difference(reward, length, sign * at)) for at in (near, far)]
    return sign * (near if left[0] <= left[1] else far)


def like_length(rewards: np.ndarray, lengths: np.ndarray, band: float) -> tuple[int, int] | None:
    """The two responses of similar length with the largest difference in reward, the better one first.

    Args:
        rewards: Rewards of the responses to one prompt, in nats [R].
        lengths: In tokens [R].
        band: Largest difference in length, as a share of the longer response, in [0, 1].

    Returns:
        Their places; None if no two have similar lengths. Of equal differences, the first in order of length counts.
    """
    order = np.argsort(lengths, kind="stable")
    reward, length = rewards[order], lengths[order]
    firsts = np.searchsorted(length, (1 - band) * length - 1e-9)
    found, widest = None, -1.0
    for at, first in enumerate(firsts.tolist()):
        if first < at:
            gaps = np.abs(reward[first:at] - reward[at])
            other = first + int(gaps.argmax())
            if gaps.max() > widest:
                found, widest = (at, other) if reward[at] > reward[other] else (other, at), float(gaps.max())
    return None if found is None else (int(order[found[0]]), int(order[found[1]]))


def _less_means(groups: Sequence[Sequence[int] | np.ndarray], values: np.ndarray) -> np.ndarray:
    """The values of all groups in order, minus the mean of their group."""
    counts = np.fromiter(map(len, groups), np.int64, len(groups))
    if not len(counts):
        return np.zeros(0)
    found = values[np.fromiter(chain.from_iterable(groups), np.int64, counts.sum())].astype(np.float64)
    means = np.add.reduceat(found, np.cumsum(counts) - counts) / counts
    return found - np.repeat(means, counts)


def _padded(groups: Sequence[Sequence[int] | np.ndarray], values: np.ndarray) -> np.ndarray:
    """The values of each group as a row [P, R], padded with nan."""
    found = np.full((len(groups), max(map(len, groups))), np.nan)
    for row, group in enumerate(groups):
        found[row, : len(group)] = values[list(group)]
    return found


def _difference(rewards: np.ndarray, lengths: np.ndarray, penalty: float) -> float:
    """Mean length of the best responses minus that of the worst, by rewards [P, R] minus ``penalty`` nats a token.

    Of equal rewards the first is the best and the last the worst, as in ``seralign.rewards.pairing``.
    """
    shaped = rewards - penalty * lengths
    rows = np.arange(len(shaped))
    best = np.nanargmax(shaped, axis=1)
    worst = shaped.shape[1] - 1 - np.nanargmin(shaped[:, ::-1], axis=1)
    return float((lengths[rows, best] - lengths[rows, worst]).mean())

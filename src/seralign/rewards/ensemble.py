"""The reward ensemble over the last two policies (SeRA, 2410.09362)."""

from __future__ import annotations

from seralign.objectives.base import Array


def ensemble_margin(h1: Array, h2: Array | None, gamma: float) -> Array:
    """m = (1 - gamma) h1 + gamma h2, or h1 if there is only one policy so far (2410.09362, the reward ensemble).

    The ensemble is linear, so it applies to margins of pairs and to scores of single responses.

    Args:
        h1: Margins or scores under the last policy, t - 1, in nats [N].
        h2: The same under the policy before it, t - 2 [N], or None.
        gamma: Weight of ``h2``, in [0, 1].

    For example, h1 = 2, h2 = -1, gamma = 0.3 give 0.7 * 2 - 0.3 = 1.1.
    """
    if h2 is None:
        return h1
    return (1 - gamma) * h1 + gamma * h2

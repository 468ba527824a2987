"""Simple preference optimization, without reference (2405.14734)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from seralign.objectives.base import Array, Objective, pairwise


def mean_log_prob(policy: Array, reference: Array | None, length: Array) -> Array:
    """log pi(y|x) / |y|: nats per response token (2405.14734, equation 4 without beta). The reference is not read."""
    return policy / length


def simpo(beta: float, gamma: float) -> Objective:
    """SimPO: -log sigmoid(beta h - gamma), h the difference of mean log-probabilities (2405.14734, equation 6).

    ``gamma`` is the paper's target reward margin, in units of reward. Its code is often run with the ratio
    gamma / beta instead; TRL's ``simpo_gamma`` is this gamma.

    With a soft label, -log sigmoid(beta (2p - 1) h - gamma): only h carries the label, so the swapped pair with
    1 - p has the same loss, and p = 1/2 gives the constant log(1 + exp(gamma)) with gradient zero.

    Worked by hand, beta = 2, gamma = 1: log pi = -10 over 5 tokens (w) and -14 over 4 tokens (l) have means -2 and
    -3.5, so h = 1.5 and the loss is log(1 + exp(-2)) = 0.126928. With p = 0.8, 0.6 h = 0.9 and the loss is
    log(1 + exp(-0.8)) = 0.371101. At h = 0 it is log(1 + e) = 1.313262.
    """

    def of_margin(h: Tensor) -> Tensor:
        return -logsigmoid(beta * h - gamma)

    return pairwise("simpo", beta, uses_reference=False, score=mean_log_prob, of_margin=of_margin)

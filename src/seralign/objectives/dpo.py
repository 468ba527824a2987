"""Direct preference optimization (2305.18290)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from seralign.objectives.base import Objective, log_ratio, pairwise


def dpo(beta: float) -> Objective:
    """DPO: -log sigmoid(beta h), with h the difference of the two log-ratios (2305.18290, equation 7).

    With a soft label, -log sigmoid(beta (2p - 1) h) (2409.06691, GDPO).

    Worked by hand, beta = 0.1: log pi = -10 (w) and -14 (l), log pi_ref = -12 and -11. The log-ratios are 2 and -3,
    so h = 5 and the loss is log(1 + exp(-0.5)) = 0.474077. With p = 0.8, 0.6 h = 3 and the loss is
    log(1 + exp(-0.3)) = 0.554355. Where the policy is the reference, h = 0 and the loss is ln 2 = 0.693147.
    """

    def of_margin(h: Tensor) -> Tensor:
        return -logsigmoid(beta * h)

    return pairwise("dpo", beta, uses_reference=True, score=log_ratio, of_margin=of_margin)

"""f-DPO, other divergences from the reference (2309.16240)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import LARGEST_EXPONENT, SoftLabels, elementwise, soft_loss
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor

Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]


@dataclass(frozen=True)
class FDPO:
    """f-DPO: -log sigmoid(beta [f'(u_w) - f'(u_l)]), u = pi / pi_ref of a response (2309.16240).

    ``divergence`` names f, the divergence whose penalty DPO's KL(pi || pi_ref) gives way to:

    - ``reverse_kl``: f'(u) = log u (and a constant, which the difference cancels), the loss of ``dpo``.
    - ``forward_kl``: f'(u) = 1 - 1 / u.
    - ``js``: f'(u) = log(2u / (1 + u)).
    - ``alpha``: f'(u) = (1 - u^-alpha) / alpha, between the two at alpha in (0, 1). TRL's f_alpha_divergence_coef is
      1 - alpha.

    Exponents are held at 80, where they would leave float32.

    A soft label is geometric, -log sigmoid(beta (2p - 1) h) with h the difference of f', or conservative, the expected
    loss.

    Worked by hand, beta = 0.1: log-ratios 2 (w) and -3 (l). ``forward_kl``: f' is 0.864665 and -19.085537, so
    h = 19.950202 and the loss log(1 + exp(-1.995020)) = 0.127523. ``js``: 0.566219 and -2.355440, h = 2.921659 and
    0.557697. ``alpha`` 0.5: 1.264241 and -6.963378, h = 8.227619 and 0.364099.

    Args:
        beta: Strength of the implicit reward.
        divergence: The divergence from the reference.
        alpha: Of the divergence ``alpha``, above 0 and below 1.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 0.1
    divergence: Divergence = "js"
    alpha: float = 0.5
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        require(0 < self.alpha < 1, "alpha", "above 0 and below 1", self.alpha)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """f'(pi / pi_ref) of the response."""
        ratio = log_ratio(policy, reference)
        return ratio if self.divergence == "reverse_kl" else elementwise(self._derivative, ratio)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        return soft_loss(self.soft_labels, self, responses, lambda h: -logsigmoid(self.beta * h))

    def _derivative(self, ratio: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        if self.divergence == "js":
            return math.log(2) + logsigmoid(ratio)
        power = 1.0 if self.divergence == "forward_kl" else self.alpha
        return -(-power * ratio).clamp(max=LARGEST_EXPONENT).expm1() / power

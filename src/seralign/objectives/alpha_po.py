"""AlphaPO, a shape of SimPO's reward (2501.03884)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, ResponseValues
from seralign.objectives.pairs import LARGEST_EXPONENT, SoftLabels, elementwise, soft_loss
from seralign.objectives.settings import check_beta, check_target
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AlphaPO:
    """AlphaPO: -log sigmoid(beta h - gamma), h the difference of rewards (1 - P^-alpha) / alpha (2501.03884).

    P is the mean probability of a response's token, exp(log pi / |y|). As alpha goes to 0 the reward becomes log P, and
    the loss that of ``simpo``; alpha = 0 is exactly this. TRL's ``alphapo`` has the same alpha.

    A soft label is geometric, -log sigmoid(beta (2p - 1) h - gamma), or conservative, the expected loss.

    Worked by hand, beta = 2, gamma = 1, alpha = 0.25: log pi = -10 over 5 tokens (w) and -14 over 4 (l) have log P = -2
    and -3.5, and the rewards 4 (1 - e^0.5) = -2.594885 and 4 (1 - e^0.875) = -5.595501. So h = 3.000616 and the loss is
    log(1 + exp(-5.001232)) = 0.006707.

    Args:
        beta: Strength of the implicit reward.
        target_margin: Target margin between the rewards, gamma in the paper.
        alpha: Shape of the reward, at most 10 in size.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 2.0
    target_margin: float = 1.0
    alpha: float = 0.25
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_target(self.target_margin)
        require(abs(self.alpha) <= 10, "alpha", "at most 10 in size", self.alpha)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """(1 - P^-alpha) / alpha, P = exp(log pi(y|x) / |y|); log P at alpha = 0."""
        if self.alpha == 0:
            return policy / length
        return elementwise(self._shaped, policy / length)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        return soft_loss(self.soft_labels, self, responses, lambda h: -logsigmoid(self.beta * h - self.target_margin))

    def _shaped(self, mean: Tensor) -> Tensor:
        return -(-self.alpha * mean).clamp(max=LARGEST_EXPONENT).expm1() / self.alpha

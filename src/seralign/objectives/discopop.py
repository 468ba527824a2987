"""The loss that DiscoPOP found (2406.08414)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import SoftLabels, soft_loss
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DiscoPOP:
    """DiscoPOP: (1 - m) * -log sigmoid(z) + m exp(-z), m = sigmoid(z / tau), z = beta h (2406.08414, equation 5).

    A logistic loss where the margin is negative, an exponential one where it is positive. It is not monotone.

    A soft label is geometric, z = beta (2p - 1) h, or conservative, the expected loss.

    Worked by hand, beta = 0.1, tau = 0.5: log-ratios 2 (w) and -3 (l) give z = 0.5, m = sigmoid(1) = 0.731059. The loss
    is 0.268941 * 0.474077 + 0.731059 * 0.606531 = 0.570908. With p = 0.8, z = 0.3, m = sigmoid(0.6) = 0.645656 and the
    geometric loss is 0.354344 * 0.554355 + 0.645656 * 0.740818 = 0.674746.

    Args:
        beta: Strength of the implicit reward.
        tau: Temperature of the change from one loss to the other, above 0 and below 1.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 0.05
    tau: float = 0.05
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        require(0 < self.tau < 1, "tau", "above 0 and below 1, or the loss grows without bound", self.tau)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        return soft_loss(self.soft_labels, self, responses, self._of_margin)

    def _of_margin(self, margin: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        z = self.beta * margin
        # m exp(-z) as one exponential: apart, they are 0 and infinite where z is far below 0.
        return (-z / self.tau).sigmoid() * -logsigmoid(z) + (logsigmoid(z / self.tau) - z).exp()

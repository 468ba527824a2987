"""Direct preference optimization (2305.18290)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import SoftLabels, soft_loss
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DPO:
    """DPO: -log sigmoid(beta h), with h the difference of the two log-ratios (2305.18290, equation 7).

    A soft label is geometric, -log sigmoid(beta (2p - 1) h) (2409.06691, GDPO), or conservative, the expected loss
    -p log sigmoid(beta h) - (1 - p) log sigmoid(-beta h), which is ``cdpo`` with each pair's own label.

    Worked by hand, beta = 0.1: log pi = -10 (w) and -14 (l), log pi_ref = -12 and -11. The log-ratios are 2 and -3, so
    h = 5 and the loss is log(1 + exp(-0.5)) = 0.474077. With p = 0.8, 0.6 h = 3 and the geometric loss is log(1 +
    exp(-0.3)) = 0.554355; the conservative one is 0.8 * 0.474077 + 0.2 * 0.974077 = 0.574077. Where the policy is the
    reference, h = 0 and the loss is ln 2 = 0.693147.

    Args:
        beta: Strength of the implicit reward.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 0.1
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        return soft_loss(self.soft_labels, self, responses, lambda h: -logsigmoid(self.beta * h))

"""Direct preference optimization (2305.18290)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio, soft_margin
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DPO:
    """DPO: -log sigmoid(beta h), with h the difference of the two log-ratios (2305.18290, equation 7).

    With a soft label, -log sigmoid(beta (2p - 1) h) (2409.06691, GDPO).

    Worked by hand, beta = 0.1: log pi = -10 (w) and -14 (l), log pi_ref = -12 and -11. The log-ratios are 2 and -3,
    so h = 5 and the loss is log(1 + exp(-0.5)) = 0.474077. With p = 0.8, 0.6 h = 3 and the loss is
    log(1 + exp(-0.3)) = 0.554355. Where the policy is the reference, h = 0 and the loss is ln 2 = 0.693147.

    Args:
        beta: Strength of the implicit reward.
    """

    beta: float = 0.1

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

        return -logsigmoid(self.beta * soft_margin(self, responses))

"""Direct preference optimization of log-ratios per token (2411.15124)."""

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
class NormalizedDPO:
    """DPO normalised by length: -log sigmoid(beta h), h the difference of the log-ratios per token.

    This is the loss of Tulu 3 (2411.15124), ``dpo_norm`` there and ``sigmoid_norm`` in TRL. The margin is
    per token, so beta is larger than for ``dpo``; Tulu 3 has 5.

    A soft label is geometric, -log sigmoid(beta (2p - 1) h), or conservative, the expected loss.

    Worked by hand, beta = 2: log pi = -10 over 5 tokens (w) and -14 over 4 (l), log pi_ref = -12 and -11. The
    log-ratios 2 and -3 are 0.4 and -0.75 a token, so h = 1.15 and the loss is log(1 + exp(-2.3)) = 0.095545. With
    p = 0.8, the geometric loss is log(1 + exp(-1.38)) = 0.224406 and the conservative one
    0.8 * 0.095545 + 0.2 * 2.395545 = 0.555545.

    Args:
        beta: Strength of the implicit reward.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 5.0
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio per response token, in nats."""
        return log_ratio(policy, reference) / length

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        return soft_loss(self.soft_labels, self, responses, lambda h: -logsigmoid(self.beta * h))

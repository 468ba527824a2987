"""Identity preference optimization of log-ratios per token, as in TRL."""

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
class NormalizedIPO:
    """IPO normalised by length: (h - 1 / (2 beta))^2, h the difference of the log-ratios per token.

    The log-ratio of each response is divided by its length before the loss of 2310.12036, equation 17. This is what
    TRL, LLaMA-Factory and ms-swift call ``ipo``. The loss of the paper itself, of summed log-probabilities, is ``ipo``
    here. The same beta means a far larger target with this one: 1 / (2 beta) nats a token.

    A soft label is geometric, ((2p - 1) h - 1 / (2 beta))^2, or conservative, the expected loss: up to a constant
    (h - (2p - 1) / (2 beta))^2.

    Worked by hand, beta = 0.5, target 1: log pi = -10 over 5 tokens (w) and -14 over 4 (l), log pi_ref = -12 and -11.
    The log-ratios 2 and -3 are 0.4 and -0.75 a token, so h = 1.15 and the loss is 0.0225. With p = 0.8, 0.6 h = 0.69
    and the geometric loss is 0.0961; the conservative one is 0.8 * 0.0225 + 0.2 * 4.6225 = 0.9425.

    Args:
        beta: Strength of the implicit reward. The target of the margin is 1 / (2 beta) nats a token.
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
        """The log-ratio per response token, in nats."""
        return log_ratio(policy, reference) / length

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        return soft_loss(self.soft_labels, self, responses, lambda h: (h - 1 / (2 * self.beta)).square())

"""Weighted preference optimization (2406.11827)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import SoftLabels, sides, soft_loss
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WPO:
    """WPO: w(y_w) w(y_l) * -log sigmoid(beta h), w(y) = exp(log pi(y|x) / |y|) (2406.11827, without weight alignment).

    Each pair counts as much as the policy itself would write its two responses, by the mean probability of a token. The
    weights have no gradient. h is the difference of the log-ratios.

    A soft label is geometric, -log sigmoid(beta (2p - 1) h), or conservative, the expected loss. The weights do not
    read it.

    Worked by hand, beta = 0.1: log pi = -10 over 5 tokens (w) and -14 over 4 (l), log pi_ref = -12 and -11. h = 5 and
    the weights are e^-2 and e^-3.5, so the loss is e^-5.5 * 0.474077 = 0.001937.

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

        chosen, rejected = sides(responses, responses.policy.detach() / responses.lengths)
        losses = soft_loss(self.soft_labels, self, responses, lambda h: -logsigmoid(self.beta * h))
        return (chosen + rejected).exp() * losses

"""Weighted preference optimization (2406.11827)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, Need, ResponseValues, log_ratio
from seralign.objectives.pairs import SoftLabels, sides, soft_loss
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor

Alignment = Literal["sampled", "none"]


@dataclass(frozen=True)
class WPO:
    """WPO: w(y_w) w(y_l) * -log sigmoid(beta h), h the difference of the log-ratios (2406.11827).

    Each pair counts as much as the policy itself would write its two responses. The weights have no gradient:

    - ``alignment: sampled``: w(y) = exp(mean over tokens of log pi(y_t) - log sum_v pi(v)^2), equation 2. A token
      counts relative to how likely the policy's own draws are in its place, so that prompts of any entropy have like
      weights. TRL's ``use_weighting`` is this.
    - ``alignment: none``: w(y) = exp(log pi(y|x) / |y|), the mean probability of a token.

    A soft label is geometric, -log sigmoid(beta (2p - 1) h), or conservative, the expected loss. The weights do not
    read it.

    Worked by hand, beta = 0.1, no alignment: log pi = -10 over 5 tokens (w) and -14 over 4 (l), log pi_ref = -12 and
    -11. h = 5 and the weights are e^-2 and e^-3.5, so the loss is e^-5.5 * 0.474077 = 0.001937. If every sum of squares
    is e^-1, sampled alignment makes the weights e^-1 and e^-2.5, and the loss e^-3.5 * 0.474077 = 0.014316.

    Args:
        beta: Strength of the implicit reward.
        alignment: What a token's probability is relative to.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 0.1
    alignment: Alignment = "sampled"
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)

    @property
    def needs(self) -> frozenset[Need]:
        """The collisions of each token, if they align the weights."""
        return frozenset({"collisions"} if self.alignment == "sampled" else ())

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = sides(responses, self._logs(responses).detach() / responses.lengths)
        losses = soft_loss(self.soft_labels, self, responses, lambda h: -logsigmoid(self.beta * h))
        return (chosen + rejected).exp() * losses

    def _logs(self, responses: ResponseValues) -> Tensor:
        """log pi(y|x) of each response [R], less the collisions of its tokens if they align it."""
        if self.alignment == "none":
            return responses.policy
        assert responses.tokens is not None
        collisions = responses.tokens.collisions
        assert collisions is not None
        return responses.tokens.by_response(responses.lengths, lambda policy, _: policy - collisions).sum(dim=1)

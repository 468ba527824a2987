"""Direct preference optimization with token weights where the responses differ (BMC, 2408.07471)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, Need, ResponseValues, log_ratio
from seralign.objectives.pairs import SoftLabels, sides, soft_loss_of
from seralign.objectives.settings import check_beta, check_weight
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BMC:
    """DPO-BMC: -log sigmoid(beta h), h of log-ratios in which a token that differs counts 1 + min(1 / pi, delta).

    2408.07471, section "modeling"; the weights are those of the authors' code (the paper's equations were not at hand).
    A token counts more if it is not part of what both responses have in common, as a diff of their tokens finds it, and
    the more the less likely the policy thinks it. pi is the policy's probability of the token, without gradient, and
    the weights are of both log-probabilities of its log-ratio. The authors' code gives the reference's log-probability
    the weight by the reference's own pi, and leaves English stop words out of the tokens that differ.

    The other half of the method is data: chosen responses that a model wrote by improving the rejected ones. Give them
    as the chosen responses. In pairs that have nothing in common, all tokens differ.

    The implicit reward of a response is the log-ratio of all its tokens: it has no other response to differ from.

    A soft label is geometric, -log sigmoid(beta (2p - 1) h), or conservative, the expected loss. The weights do not
    read it.

    Worked by hand, beta = 0.1, delta = 2: both responses begin with the same token, of the log-ratio 0.1. Then w has a
    token with log pi = -1 and the log-ratio 1, which counts 1 + min(e, 2) = 3, and l one with log pi = -0.5 and the
    log-ratio -0.25, which counts 1 + e^0.5 = 2.648721. h = 3 + 0.662180 and the loss is log(1 + exp(-0.366218)) =
    0.526710. With p = 0.8, 0.6 h = 2.197308 and the geometric loss is 0.589305; the conservative one is 0.599953.

    Args:
        beta: Strength of the implicit reward.
        delta: The most that a token's 1 / pi adds to its weight, at least 0; 0 is ``dpo``. 2 in the authors' code.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 0.1
    delta: float = 2.0
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"
    needs: ClassVar[frozenset[Need]] = frozenset({"tokens", "edits"})

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_weight(self.delta, "delta")

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio of all tokens, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        tokens = responses.tokens
        assert tokens is not None
        assert tokens.edits is not None
        weights = 1 + tokens.edits * (-tokens.policy.detach()).exp().clamp(max=self.delta)
        ratios = tokens.by_response(responses.lengths, lambda policy, other: weights * log_ratio(policy, other))
        chosen, rejected = sides(responses, ratios.sum(dim=1))
        return soft_loss_of(self.soft_labels, chosen - rejected, responses, lambda h: -logsigmoid(self.beta * h))

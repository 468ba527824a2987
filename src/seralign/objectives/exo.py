"""Efficient exact optimization (2402.00856)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import margin, smoothed
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EXO:
    """EXO on pairs: KL(q || t), q = softmax(beta rho) over the pair, t = (1 - e, e) (2402.00856, equation 16).

    With z = beta h this is sigmoid(z) [log sigmoid(z) - log(1 - e)] + sigmoid(-z) [log sigmoid(-z) - log e]: the
    reverse of the divergence that ``cdpo`` descends. e is ``label_smoothing``, which cannot be 0.

    With a soft label, t is (q, 1 - q) with q = p (1 - e) + (1 - p) e: the policy is drawn to the probability itself, as
    the paper does with rewards of a model.

    Worked by hand, beta = 0.1, e = 0.1: log pi = -10 (w) and -14 (l), log pi_ref = -12 and -11 give z = 0.5, and
    sigmoid(0.5) = 0.622459. The loss is 0.622459 (-0.474077 + 0.105361) + 0.377541 (-0.974077 + 2.302585) = 0.272055.
    With p = 0.8, q = 0.74 and the loss is 0.033153.

    Args:
        beta: Strength of the implicit reward.
        label_smoothing: Probability of the rejected response in the target, above 0 and below 1/2.
    """

    beta: float = 0.1
    label_smoothing: float = 1e-3

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        require(0 < self.label_smoothing < 0.5, "label_smoothing", "above 0 and below 0.5", self.label_smoothing)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        z = self.beta * margin(self, responses)
        q = smoothed(responses.first(responses.preference), self.label_smoothing)
        log_chosen, log_rejected = logsigmoid(z), logsigmoid(-z)
        return log_chosen.exp() * (log_chosen - q.log()) + log_rejected.exp() * (log_rejected - (1 - q).log())

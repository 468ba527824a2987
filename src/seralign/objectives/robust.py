"""Robust direct preference optimization (2403.00409)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import expected, margin
from seralign.objectives.settings import check_beta, check_flips
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RobustDPO:
    """rDPO: [-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)] / (1 - 2e) (2403.00409, section 3.1).

    TRL's ``robust``. If labels are flipped with probability e, ``label_smoothing``, this is an unbiased estimate of the
    loss of ``dpo`` under the labels without noise. It has no lower bound: its gradient does not end where a margin is
    large. R-DPO, the length-regularised loss, is ``r_dpo``.

    A soft label makes it the expected loss. It is linear in the label: q l(h) + (1 - q) l(-h) with
    q = (p - e) / (1 - 2e) and l = -log sigmoid(beta h).

    Worked by hand, beta = 0.1, e = 0.1: log pi = -10 (w) and -14 (l), log pi_ref = -12 and -11 give h = 5, and
    -log sigmoid is 0.474077 at 0.5 and 0.974077 at -0.5. The loss is (0.9 * 0.474077 - 0.1 * 0.974077) / 0.8 =
    0.411577. With p = 0.8, q = 0.875 and the loss is 0.536577.

    Args:
        beta: Strength of the implicit reward.
        label_smoothing: Probability that a label is flipped, at least 0 and below 1/2.
    """

    beta: float = 0.1
    label_smoothing: float = 0.1

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_flips(self.label_smoothing)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        z = self.beta * margin(self, responses)
        q = (responses.first(responses.preference) - self.label_smoothing) / (1 - 2 * self.label_smoothing)
        return expected(q, -logsigmoid(z), -logsigmoid(-z))

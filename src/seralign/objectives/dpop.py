"""DPO-Positive (2402.13228)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import expected, reward_sides
from seralign.objectives.settings import check_beta, check_weight
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DPOPositive:
    """DPO-Positive: -log sigmoid(beta (h - lambda max(0, -rho_w))) (2402.13228, equation 3), h = rho_w - rho_l.

    The penalty keeps the likelihood of the chosen response from falling below the reference's, which ``dpo`` allows
    where that of the rejected one falls more. lambda is ``penalty``, 50 in the paper, with beta 0.3. The penalty is
    inside of beta, as in the implementations of oat (which gives the number of the equation) and of VinePPO.

    With a soft label, the expected loss.

    Worked by hand, beta = 0.1, lambda = 2: log-ratios -1 (w) and -3 (l) give h = 2 and a penalty of 2, so the loss is
    ln 2 = 0.693147. The swapped pair has h = -2 and a penalty of 6: log(1 + exp(0.8)) = 1.171101; with p = 0.8 the loss
    is 0.788738.

    Args:
        beta: Strength of the implicit reward.
        penalty: Weight of the fall of the chosen response's log-probability, lambda in the paper, at least 0.
    """

    beta: float = 0.3
    penalty: float = 50.0

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_weight(self.penalty, "penalty")

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = reward_sides(self, responses)
        margin, lost, other = chosen - rejected, self.penalty * (-chosen).relu(), self.penalty * (-rejected).relu()
        as_given, swapped = -logsigmoid(self.beta * (margin - lost)), -logsigmoid(self.beta * (-margin - other))
        return expected(responses.first(responses.preference), as_given, swapped)

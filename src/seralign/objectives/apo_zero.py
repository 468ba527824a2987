"""Anchored preference optimization, zero (2408.06266)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import expected, reward_sides
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class APOZero:
    """APO-zero: 1 - sigmoid(beta rho_w) + sigmoid(beta rho_l) (2408.06266, equation 7).

    For chosen responses that are better than what the model gives: their likelihood rises, that of rejected ones falls.

    With a soft label, the expected loss.

    Worked by hand, beta = 0.1: log-ratios 2 (w) and -3 (l) are the rewards 0.2 and -0.3, with sigmoids 0.549834 and
    0.425557. The loss is 0.875723. With p = 0.8, 0.8 * 0.875723 + 0.2 * 1.124277 = 0.925434.

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
        chosen, rejected = reward_sides(self, responses)
        chosen, rejected = (self.beta * chosen).sigmoid(), (self.beta * rejected).sigmoid()
        p = responses.first(responses.preference)
        return expected(p, 1 - chosen + rejected, 1 - rejected + chosen)

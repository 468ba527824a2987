"""Anchored preference optimization, down (2408.06266)."""

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
class APODown:
    """APO-down: sigmoid(beta rho_w) + 1 - sigmoid(beta h) (2408.06266, equation 8).

    For chosen responses that are worse than what the model gives: the likelihood of both falls, that of the rejected
    ones more.

    With a soft label, the expected loss.

    Worked by hand, beta = 0.1: log-ratios 2 (w) and -3 (l), h = 5. sigmoid(0.2) = 0.549834 and sigmoid(0.5) = 0.622459,
    so the loss is 0.927375. The swapped pair has sigmoid(-0.3) + 1 - sigmoid(-0.5) = 1.048017, and with p = 0.8 the
    loss is 0.951503.

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
        above = (self.beta * (chosen - rejected)).sigmoid()
        as_given = (self.beta * chosen).sigmoid() + 1 - above
        swapped = (self.beta * rejected).sigmoid() + above
        return expected(responses.first(responses.preference), as_given, swapped)

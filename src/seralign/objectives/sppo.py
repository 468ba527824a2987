"""Self-play preference optimization (2405.00675)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import reward_sides
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SPPO:
    """SPPO on pairs: (rho_w - (p - 1/2) / beta)^2 + (rho_l + (p - 1/2) / beta)^2 (2405.00675, equation 4.7).

    Each log-ratio is regressed on its own target. With a hard label this is TRL's ``sppo_hard``. The paper runs it with
    eta = 1000.

    With a soft label p is the probability of the paper's equation, a regression. Its gradient is that of the expected
    loss; the values differ by a constant.

    Worked by hand, beta = 0.1, targets 5 and -5: log-ratios 2 (w) and -3 (l) give 9 + 4 = 13. With p = 0.8 the targets
    are 3 and -3, and the loss is 1 + 0 = 1.

    Args:
        beta: Strength of the implicit reward, 1 / eta in the paper.
    """

    beta: float = 0.001

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
        target = (responses.first(responses.preference) - 0.5) / self.beta
        return (chosen - target).square() + (rejected + target).square()

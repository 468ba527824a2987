"""Simple preference optimization, without reference (2405.14734)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, ResponseValues, soft_margin
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SimPO:
    """SimPO: -log sigmoid(beta h - gamma), h the difference of mean log-probabilities (2405.14734, equation 6).

    gamma is ``target_margin``, the paper's target reward margin, in units of reward. Its code is often run with the
    ratio gamma / beta instead; TRL's ``simpo_gamma`` is this gamma.

    With a soft label, -log sigmoid(beta (2p - 1) h - gamma): only h carries the label, so the swapped pair with
    1 - p has the same loss, and p = 1/2 gives the constant log(1 + exp(gamma)) with gradient zero.

    Worked by hand, beta = 2, gamma = 1: log pi = -10 over 5 tokens (w) and -14 over 4 tokens (l) have means -2 and
    -3.5, so h = 1.5 and the loss is log(1 + exp(-2)) = 0.126928. With p = 0.8, 0.6 h = 0.9 and the loss is
    log(1 + exp(-0.8)) = 0.371101. At h = 0 it is log(1 + e) = 1.313262.

    Args:
        beta: Strength of the implicit reward.
        target_margin: Target margin between the rewards, gamma in the paper.
    """

    beta: float = 2.0
    target_margin: float = 1.0

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        require(abs(self.target_margin) <= 1e6, "target_margin", "at most 1e6 in size", self.target_margin)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """log pi(y|x) / |y|: nats per response token (2405.14734, equation 4 without beta)."""
        return policy / length

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        return -logsigmoid(self.beta * soft_margin(self, responses) - self.target_margin)

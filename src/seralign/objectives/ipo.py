"""Identity preference optimization (2310.12036)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import SoftLabels, soft_loss
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class IPO:
    """IPO: (h - 1 / (2 beta))^2 (2310.12036, equation 17, where beta is called tau).

    Log-probabilities are summed over the response, as in the paper. TRL's ``ipo`` divides each log-ratio by its
    response's length: here that is ``ipo_norm``. The two agree where every response has one token.

    A geometric soft label is ((2p - 1) h - 1 / (2 beta))^2 (2409.06691, GIPO). The gradient carries the factor 2p - 1
    and is zero at p = 1/2, where the loss is the constant 1 / (2 beta)^2; but the margin at which the loss is least, 1
    / (2 beta (2p - 1)), grows as p falls to 1/2: an uncertain pair pulls weakly, but towards a larger margin.

    A conservative one is the expected loss: up to a constant (h - (2p - 1) / (2 beta))^2, least at a smaller margin.

    Worked by hand, beta = 0.1, target 5: log pi = -10 (w) and -14 (l), log pi_ref = -12 and -11 give h = 5 and the
    loss 0. With p = 0.8, 0.6 h = 3 and the geometric loss is (3 - 5)^2 = 4; the conservative one
    is 0.8 * 0 + 0.2 * 100 = 20. At h = 0 it is 25.

    Args:
        beta: Strength of the implicit reward. The target of the margin is 1 / (2 beta).
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
        return soft_loss(self.soft_labels, self, responses, lambda h: (h - 1 / (2 * self.beta)).square())

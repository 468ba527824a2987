"""Simple preference optimization, without reference (2405.14734)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues
from seralign.objectives.pairs import SoftLabels, soft_loss
from seralign.objectives.settings import check_beta, check_target
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SimPO:
    """SimPO: -log sigmoid(beta h - gamma), h the difference of mean log-probabilities (2405.14734, equation 6).

    gamma is ``target_margin``, the paper's target reward margin, in units of reward. Its code is often run with the
    ratio gamma / beta instead; TRL's ``simpo_gamma`` is this gamma.

    A geometric soft label is -log sigmoid(beta (2p - 1) h - gamma): only h carries the label, so the swapped pair with
    1 - p has the same loss, and p = 1/2 gives the constant log(1 + exp(gamma)) with gradient zero.

    A conservative one is the expected loss, in which the swapped pair has its target too, -log sigmoid(-beta h -
    gamma). TRL's label_smoothing turns the sign of the target round with that of the pair.

    Worked by hand, beta = 2, gamma = 1: log pi = -10 over 5 tokens (w) and -14 over 4 tokens (l) have means -2 and
    -3.5, so h = 1.5 and the loss is log(1 + exp(-2)) = 0.126928. With p = 0.8, 0.6 h = 0.9 and the loss is log(1 +
    exp(-0.8)) = 0.371101; the conservative loss is 0.8 * 0.126928 + 0.2 * 4.018150 = 0.905172. At h = 0 it is log(1 +
    e) = 1.313262.

    Args:
        beta: Strength of the implicit reward.
        target_margin: Target margin between the rewards, gamma in the paper.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    beta: float = 2.0
    target_margin: float = 1.0
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_target(self.target_margin)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """log pi(y|x) / |y|: nats per response token (2405.14734, equation 4 without beta)."""
        return policy / length

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        return soft_loss(self.soft_labels, self, responses, lambda h: -logsigmoid(self.beta * h - self.target_margin))

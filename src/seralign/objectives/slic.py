"""The reference-normalised hinge (2305.10425, 2309.06657)."""

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
class SLiC:
    """SLiC's hinge on the log-ratios: max(0, 1 - beta h) (2309.06657, the ``hinge-norm`` loss; TRL's ``hinge``).

    SLiC-HF's own loss (2305.10425) has no reference and adds a supervised term; it is ``slic_hf``.

    A geometric soft label is max(0, 1 - beta (2p - 1) h). The gradient is -beta (2p - 1) or zero, so it is zero at p =
    1/2, where the loss is the constant 1. The hinge closes at h = 1 / (beta (2p - 1)), later for an uncertain pair. At
    the corner itself the gradient is zero. A conservative one is the expected loss.

    Worked by hand, beta = 0.1: log pi = -10 (w) and -14 (l), log pi_ref = -12 and -11 give h = 5 and the loss 0.5. With
    p = 0.8, 0.6 h = 3 and the geometric loss is 0.7; the conservative one is 0.8 * 0.5 + 0.2 * 1.5 = 0.7 too. At h = 0
    it is 1; from h = 10 on it is 0.

    Args:
        beta: Strength of the implicit reward. The loss is 0 from the margin 1 / beta on.
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
        return soft_loss(self.soft_labels, self, responses, lambda h: (1 - self.beta * h).relu())

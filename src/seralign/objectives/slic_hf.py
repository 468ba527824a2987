"""Sequence likelihood calibration with human feedback, without reference (2305.10425)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues
from seralign.objectives.pairs import SoftLabels, soft_loss
from seralign.objectives.settings import check_target
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SLiCHF:
    """SLiC-HF: max(0, d - log pi(y_w) + log pi(y_l)) (2305.10425), the calibration loss alone.

    d is ``target_margin``, in nats. Log-probabilities are summed, and there is no reference. The paper adds a
    supervised term: ``objective: [{name: slic_hf}, {name: sft, weight: 0.1}]``. The hinge on log-ratios is ``slic``.

    A soft label is geometric, max(0, d - (2p - 1) h) with h = log pi(y_w) - log pi(y_l), or conservative, the expected
    loss.

    Worked by hand, d = 6: log pi = -10 (w) and -14 (l) give h = 4 and the loss 2. With p = 0.8, 0.6 h = 2.4 and the
    geometric loss is 3.6; the conservative one is 0.8 * 2 + 0.2 * 10 = 3.6 too, as the hinge is open on both sides.

    Args:
        target_margin: The margin in nats from which on the loss is 0, delta in the paper.
        soft_labels: Form of a soft label (``seralign.objectives.pairs``).
    """

    target_margin: float = 1.0
    soft_labels: SoftLabels = "geometric"

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_target(self.target_margin)

    @property
    def beta(self) -> float:
        """There is no strength: the margin is that of the log-probabilities themselves."""
        return 1.0

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """log pi(y|x), in nats."""
        return policy

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        return soft_loss(self.soft_labels, self, responses, lambda h: (self.target_margin - h).relu())

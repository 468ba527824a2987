"""The unlikelihood baseline of 2305.18290."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, ResponseValues
from seralign.objectives.pairs import expected, reward_sides
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Unlikelihood:
    """Unlikelihood: -log pi(y_w) + alpha log pi(y_l) (2305.18290, section 6, baselines; after 1908.04319).

    alpha is ``rejected_weight``, 0 to 1 in the paper. The loss has no lower bound: nothing keeps the rejected response
    from becoming ever less likely. Preferred-SFT, the paper's other baseline, is ``sft``.

    With a soft label, the expected loss.

    Worked by hand, alpha = 0.5: log pi = -10 (w) and -14 (l) give 10 - 7 = 3. The swapped pair has 14 - 5 = 9, and with
    p = 0.8 the loss is 4.2.

    Args:
        rejected_weight: Weight of the rejected response, from 0 to 1.
    """

    rejected_weight: float = 1.0

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        require(0 <= self.rejected_weight <= 1, "rejected_weight", "from 0 to 1", self.rejected_weight)

    @property
    def beta(self) -> float:
        """There is no strength: the reward is the log-probability itself."""
        return 1.0

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """log pi(y|x), in nats."""
        return policy

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        chosen, rejected = reward_sides(self, responses)
        as_given, swapped = self.rejected_weight * rejected - chosen, self.rejected_weight * chosen - rejected
        return expected(responses.first(responses.preference), as_given, swapped)

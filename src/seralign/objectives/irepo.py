"""Regression of the margin on the logit of the label (2405.15230)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import margin
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class IREPO:
    """iREPO: (log(p / (1 - p)) - beta h)^2 (2405.15230), h the difference of the log-ratios.

    p is held between ``clip`` and 1 - ``clip``, so that a hard label has a target too, log((1 - clip) / clip) in units
    of reward. This is the regression form of a soft label: the margin that is least is that of the label itself.

    Worked by hand, beta = 0.1, clip = 0.05: log pi = -10 (w) and -14 (l), log pi_ref = -12 and -11 give h = 5. The hard
    label's target is log 19 = 2.944439 and the loss (2.944439 - 0.5)^2 = 5.975282. With p = 0.8 the target is
    log 4 = 1.386294 and the loss 0.785518.

    Args:
        beta: Strength of the implicit reward.
        clip: Least probability that a label is taken to give either response, above 0 and below 1/2.
    """

    beta: float = 0.1
    clip: float = 0.01

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        require(0 < self.clip < 0.5, "clip", "above 0 and below 0.5", self.clip)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        p = responses.first(responses.preference).clamp(self.clip, 1 - self.clip)
        return (p.logit() - self.beta * margin(self, responses)).square()

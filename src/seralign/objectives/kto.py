"""Kahneman-Tversky optimization, of unpaired labels (2402.01306)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, Need, ResponseValues, log_ratio
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class KTO:
    """KTO: w_d (1 - sigmoid(beta (rho - z))) if desirable, else w_u (1 - sigmoid(beta (z - rho))) (2402.01306, eq. 8).

    z is the KL divergence of the policy from the reference, without gradient: the mean log-ratio of mismatched
    responses over the whole step, or 0 if that is less. The mismatched response of an example is a response to another
    prompt. TRL's KTO trainer has the same loss; it takes the mean over the batch of all devices, without accumulation.

    Worked by hand, beta = 0.1, mismatched log-ratios 1 and 3, so z = 2: a desirable response with the log-ratio 5 has
    the loss 1 - sigmoid(0.3) = 0.425557, and an undesirable one with -3 has 1 - sigmoid(0.5) = 0.377541. With the
    mismatched log-ratios -1 and -3, z = 0, and the losses are 0.377541 and 0.425557.

    Args:
        beta: Strength of the implicit reward.
        desirable_weight: Weight of desirable responses, w_d. Where they are rarer, it should be larger: the paper keeps
            the ratio of w_d times their number to w_u times the number of the others between 1 and 4/3 or 3/2.
        undesirable_weight: Weight of undesirable responses, w_u.
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    forms: ClassVar[frozenset[Form]] = frozenset({"label"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"
    needs: ClassVar[frozenset[Need]] = frozenset({"mismatched", "step"})

    def __post_init__(self) -> None:
        check_beta(self.beta)
        for key in ("desirable_weight", "undesirable_weight"):
            value = getattr(self, key)
            require(0.0 < value <= 1e6, key, "a number above 0 and at most 1e6", value)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        import torch

        assert responses.step is not None
        step = responses.step.responses
        z = step.second(self.reward(step.policy, step.reference, step.lengths)).mean().clamp(min=0).detach()
        reward = responses.first(self.reward(responses.policy, responses.reference, responses.lengths))
        desirable = responses.first(responses.preference) > 0.5
        above = self.beta * (reward - z)
        # 1 - sigmoid(x) = sigmoid(-x), which keeps its digits where it is small.
        good, bad = self.desirable_weight * torch.sigmoid(-above), self.undesirable_weight * torch.sigmoid(above)
        return torch.where(desirable, good, bad)

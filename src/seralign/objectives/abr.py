"""Adaptive behavior regularization (2211.08251), carried over from actions with values to responses with scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import positive, require
from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ABR:
    """ABR: the sum over K scored responses of c q (-log softmax(beta rho)) + (1 - c) (-log pi(y|x) / |y|) / K.

    Each response is improved on as far as the policy that wrote the data supports it, and cloned as far as it does not:

    - c(y) = P / (P + lambda) with P = exp(log pi_ref(y|x) / |y|), the mean probability of a token under the reference.
    - q = softmax(score / temperature) over the responses of the example. The improvement is the cross-entropy of the
      policy's own preference, softmax(beta rho), with q: for two responses, DPO with a conservative soft label.
    - Cloning is the negative log-likelihood per token, the same for every response whatever its score.

    What is the paper's: the objective moves between cloning and improving on the policy that generated the data, and a
    regularization by samples decides how far. Its coefficient has the closed form of the density of that policy over
    itself plus lambda times the density of uniformly drawn actions. What is ours: the paper learns a Q-function of
    actions, and its equations were not at hand. Here the reference stands for the policy that generated the data, a
    constant for the uniform density, scores for values, and the loss of preferences above for the improvement.

    At lambda = 0 nothing is cloned. With a large lambda, ABR is supervised training on all responses.

    Worked by hand, beta = 0.1, lambda = 0.1, temperature = 1: log pi = -10 over 5 tokens with the score 2 and -14 over
    4 with the score 1, log pi_ref = -12 and -11. rho = 2 and -3, so log softmax(beta rho) = -0.474077 and -0.974077.
    q = 0.731059 and 0.268941. P = e^-2.4 = 0.090718 and e^-2.75 = 0.063928, c = 0.475666 and 0.389976. The improvement
    is 0.475666 * 0.731059 * 0.474077 + 0.389976 * 0.268941 * 0.974077 = 0.267017, cloning 0.524334 * 2 / 2 +
    0.610024 * 3.5 / 2 = 1.591877, and the loss 1.858894.

    Args:
        beta: Strength of the implicit reward.
        regularization: lambda, at least 0: the density of uniform draws, on the scale of a token's probability. Cloning
            is of a larger scale than the improvement, whose gradient has the factor beta: 0.1 left almost nothing but
            cloning in the laboratory.
        temperature: Of the scores, in their units.
    """

    beta: float = 0.1
    regularization: float = 0.01
    temperature: float = 1.0

    forms: ClassVar[frozenset[Form]] = frozenset({"scores"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        require(0 <= self.regularization < math.inf, "regularization", "at least 0", self.regularization)
        positive(self.temperature, "temperature")

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        import torch

        policy, reference, lengths = responses.policy, responses.reference, responses.lengths
        assert reference is not None
        support = (reference / lengths).exp()
        improving = support / (support + self.regularization) if self.regularization else torch.ones_like(support)
        rewards = responses.padded(self.beta * self.reward(policy, reference, lengths), -torch.inf)
        targets = responses.padded(responses.preference.to(policy) / self.temperature, -torch.inf).softmax(dim=1)
        # Absent responses have a target of 0, and would give 0 * infinity.
        surprise = torch.where(rewards.isinf(), 0.0, -rewards.log_softmax(dim=1))
        improvement = (responses.padded(improving, 0.0) * targets * surprise).sum(dim=1)
        return improvement + responses.mean((1 - improving) * -policy / lengths)

"""An objective of one's own, as a user would write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from seralign.objectives import ResponseValues
from seralign.objectives.base import Array, log_ratio
from seralign.objectives.pairs import soft_loss
from seralign.records import Form


@dataclass(frozen=True)
class Squared:
    """(1 - beta h)^2."""

    beta: float = 0.1

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        return soft_loss("geometric", self, responses, lambda h: (1 - self.beta * h).square())


class OfRankings(Squared):
    """Takes rankings alone: (1 - beta (r - mean r))^2, with r the reward of the best response."""

    forms: ClassVar[frozenset[Form]] = frozenset({"ranking"})

    def loss(self, responses: ResponseValues) -> Tensor:
        rewards = self.reward(responses.policy, responses.reference, responses.lengths)
        return (1 - self.beta * (responses.first(rewards) - responses.mean(rewards))).square()


@dataclass(frozen=True)
class Centred:
    """Mean over the responses of ((r - mean r) - (s - mean s))^2, plus (mean r)^2, with r = beta rho and scores s."""

    beta: float = 0.1

    forms: ClassVar[frozenset[Form]] = frozenset({"scores"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        rewards = self.beta * self.reward(responses.policy, responses.reference, responses.lengths)
        scores, middle = responses.preference, responses.mean(rewards)
        apart = rewards - middle[responses.example] - (scores - responses.mean(scores)[responses.example])
        return responses.mean(apart.square()) + middle.square()

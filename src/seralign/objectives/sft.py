"""Supervised fine-tuning on the chosen responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SFT:
    """SFT: -log pi(y_w | x), the preferred-SFT baseline of 2305.18290.

    The loss of an example is summed over the tokens of its first response, and its unit is the token: a step's loss is
    the sum of the losses over the sum of those lengths, the mean over tokens, as TRL's SFT. Other responses, the
    reference and the preference are not read. It has no settings.

    Worked by hand: log pi = -10 over 5 tokens and -14 over 3 tokens have the losses 10 and 14, and the step's loss is
    24 / 8 = 3 nats per token.
    """

    forms: ClassVar[frozenset[Form]] = frozenset({"pair", "ranking", "demonstration"})
    reads: ClassVar[Literal["all", "first"]] = "first"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "token"

    @property
    def beta(self) -> float:
        """There is no strength: the reward is the log-probability itself."""
        return 1.0

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """log pi(y|x) in nats."""
        return policy

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        return -responses.first(responses.policy)

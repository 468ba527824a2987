"""The negative log-likelihood of the chosen response per token, for sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NLL:
    """NLL: -log pi(y_w | x) / |y_w|, the term that RPO adds (2404.19733, equation 1).

    ``objective: [{name: dpo}, {name: nll, weight: 1.0}]`` is RPO, and LLaMA-Factory's ``pref_ftx``. Each response
    counts alike, whatever its length; ``sft`` is the mean over all tokens of a step. Other responses, the reference and
    the preference are not read. It has no settings.

    Worked by hand: log pi = -10 over 5 tokens and -14 over 4 have the losses 2 and 3.5.
    """

    forms: ClassVar[frozenset[Form]] = frozenset({"pair", "ranking", "demonstration"})
    reads: ClassVar[Literal["all", "first"]] = "first"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"

    @property
    def beta(self) -> float:
        """There is no strength: the reward is the mean log-probability itself."""
        return 1.0

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """log pi(y|x) / |y|, in nats per response token."""
        return policy / length

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        return -responses.first(responses.policy / responses.lengths)

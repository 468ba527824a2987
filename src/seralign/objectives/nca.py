"""Noise contrastive alignment (2402.05369, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues, log_ratio
from seralign.objectives.pairs import expected, reward_sides
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NCA:
    """NCA on pairs: -log s(r_w) - 1/2 log s(-r_w) - 1/2 log s(-r_l), r = beta rho, s = sigmoid (2402.05369).

    Unlike losses of the margin, it holds the likelihood of each response by itself: r_w does not fall.

    With a soft label, -p log s(r_w) - (1 - p) log s(r_l) - 1/2 log s(-r_w) - 1/2 log s(-r_l), the loss of the paper for
    rewards whose softmax over the pair is (p, 1 - p). It is the expected loss, too.

    Worked by hand, beta = 0.1: log-ratios 2 (w) and -3 (l) are the rewards 0.2 and -0.3. -log s is 0.598139 at 0.2,
    0.798139 at -0.2 and 0.554355 at 0.3, so the loss is 0.598139 + 0.399070 + 0.277178 = 1.274386. With p = 0.8,
    0.2 (0.854355 - 0.598139) = 0.051243 more: 1.325629.

    Args:
        beta: Strength of the implicit reward.
    """

    beta: float = 0.01

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
        from torch.nn.functional import logsigmoid

        chosen, rejected = reward_sides(self, responses)
        chosen, rejected = self.beta * chosen, self.beta * rejected
        attraction = expected(responses.first(responses.preference), -logsigmoid(chosen), -logsigmoid(rejected))
        return attraction - (logsigmoid(-chosen) + logsigmoid(-rejected)) / 2

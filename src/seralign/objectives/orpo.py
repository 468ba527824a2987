"""Odds ratio preference optimization (2403.07691)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import positive, require
from seralign.objectives.base import Array, ResponseValues
from seralign.objectives.pairs import elementwise, expected, mean_nll, reward_sides
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ORPO:
    """ORPO: -m_w - lambda log sigmoid(o_w - o_l), with m = log pi / |y| and the log-odds o = m - log(1 - e^m).

    2403.07691, equations 4, 6 and 7. m is the mean log-probability of a response's tokens, and there is no reference:
    the first term is the supervised loss of the chosen response. lambda is ``odds_weight``; TRL calls it beta.

    With a soft label, the expected loss: both terms count the other response with 1 - p.

    Worked by hand, lambda = 0.1: log pi = -10 over 5 tokens (w) and -14 over 4 (l) have the means -2 and -3.5, and the
    log-odds -1.854587 and -3.469337. The loss is 2 + 0.1 log(1 + exp(-1.614750)) = 2.018144. With p = 0.8,
    0.8 * 2.018144 + 0.2 * (3.5 + 0.179619) = 2.350439.

    Args:
        odds_weight: Weight of the odds-ratio term, lambda in the paper, above 0.
    """

    odds_weight: float = 0.1

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"

    def __post_init__(self) -> None:
        positive(self.odds_weight, "odds_weight")
        require(self.odds_weight <= 1e6, "odds_weight", "at most 1e6", self.odds_weight)

    @property
    def beta(self) -> float:
        """There is no strength: the loss reads the log-odds themselves."""
        return 1.0

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-odds of the mean probability of a token, log(P / (1 - P)) with P = exp(log pi(y|x) / |y|)."""
        return elementwise(_log_odds, policy / length)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = reward_sides(self, responses)
        p, margin = responses.first(responses.preference), chosen - rejected
        return mean_nll(responses) - self.odds_weight * expected(p, logsigmoid(margin), logsigmoid(-margin))


def _log_odds(mean: Tensor) -> Tensor:
    # A probability of 1 has no odds: it is held a little below.
    mean = mean.clamp(max=-1e-6)
    return mean - (-mean.expm1()).log()

"""Triple preference optimization (2405.16681)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, ResponseValues
from seralign.objectives.settings import check_beta, check_target, check_weight
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TPO:
    """TPO: -log sigmoid(beta (log pi(y_w) - log pi(y_l))) - alpha log pi(y_gold) / |y_gold| (2405.16681).

    Of a ranking of three responses or more, y_gold is the best, y_w the second and y_l the last, as the paper takes
    them from the four scored responses of UltraFeedback. There is no reference policy. alpha is ``nll_weight``. The
    supervised term is averaged over the tokens of each response; TRL's (``tpo_alpha``), over all tokens of a batch. If
    the second and the last response are tied, there is no contrast, and the first term is 0.

    Tree preference optimization (2410.12854) has the same initials; it is another method, on steps of a tree.

    Worked by hand, beta = 0.1, alpha = 1: log pi = -6 over 3 tokens (gold), -10 over 5 (w) and -14 over 4 (l) give
    log(1 + exp(-0.4)) + 2 = 2.513015.

    Args:
        beta: Strength of the implicit reward.
        nll_weight: Weight of the supervised term, at least 0.
    """

    beta: float = 0.1
    nll_weight: float = 1.0

    forms: ClassVar[frozenset[Form]] = frozenset({"ranking"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"
    least_responses: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_weight(self.nll_weight, "nll_weight")

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """log pi(y|x), in nats."""
        return policy

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        return _loss(responses, responses.policy, self.beta, 0.0, self.nll_weight)


@dataclass(frozen=True)
class NormalizedTPO:
    """TPO-L: -log sigmoid(beta h - gamma) - alpha log pi(y_gold) / |y_gold| (2405.16681), h of mean log-probabilities.

    As ``TPO``, with the reward and the target margin of ``simpo``: h = log pi(y_w) / |y_w| - log pi(y_l) / |y_l|, and
    gamma is ``target_margin`` in units of reward.

    Worked by hand, beta = 2, gamma = 0.5, alpha = 1: log pi = -6 over 3 tokens (gold), -10 over 5 (w) and -14 over 4
    (l) give h = 1.5 and log(1 + exp(-2.5)) + 2 = 2.078889.

    Args:
        beta: Strength of the implicit reward.
        target_margin: Target margin between the rewards, gamma in the paper.
        nll_weight: Weight of the supervised term, at least 0.
    """

    beta: float = 2.0
    target_margin: float = 0.5
    nll_weight: float = 1.0

    forms: ClassVar[frozenset[Form]] = frozenset({"ranking"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"
    least_responses: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_target(self.target_margin)
        check_weight(self.nll_weight, "nll_weight")

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """log pi(y|x) / |y|: nats per response token."""
        return policy / length

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        rewards = responses.policy / responses.lengths
        return _loss(responses, rewards, self.beta, self.target_margin, self.nll_weight)


def _loss(responses: ResponseValues, rewards: Tensor, beta: float, target: float, nll_weight: float) -> Tensor:
    """The contrast of the second and the last of each ranking, and the supervised loss of the first [N]."""
    import torch
    from torch.nn.functional import logsigmoid

    ranks = responses.padded(responses.preference, torch.inf)
    order = ranks.argsort(dim=1, stable=True)
    counts = responses.example.bincount(minlength=responses.examples)
    second, last = (order.gather(1, at[:, None]) for at in ((counts - 1).clamp(max=1), counts - 1))
    table = responses.padded(rewards, 0.0)
    margin = (table.gather(1, second) - table.gather(1, last))[:, 0]
    is_tied = (ranks.gather(1, second) == ranks.gather(1, last))[:, 0]
    contrast = -logsigmoid(beta * margin - target)
    gold = responses.padded(-responses.policy / responses.lengths, 0.0).gather(1, order[:, :1])[:, 0]
    return contrast.masked_fill(is_tied, 0.0) + nll_weight * gold

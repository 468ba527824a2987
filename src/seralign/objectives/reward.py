"""Reward models: the loss of Bradley and Terry on pairs, and its forms for rankings and scores.

Legend: r is the reward of a response, which the head of the model says (``seralign.policy.heads``), of no unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.checks import require
from seralign.objectives.base import Array, HeadName, ResponseValues
from seralign.objectives.pairs import expected, sides
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reward:
    """Bradley-Terry: -log sigmoid(r_w - r_l) + c (r_w + r_l)^2 (1706.03741; centring of 2312.09244, section A).

    A soft label is the expectation over the label: -p log sigmoid(d) - (1 - p) log sigmoid(-d), with d = r_w - r_l.
    The loss does not change if a constant is added to all rewards; ``center`` keeps their mean near 0. With p = 1 it is
    the loss of TRL's ``RewardTrainer``, and ``center`` its ``center_rewards_coefficient``.

    Worked by hand: r = 2 (w) and 0.5 (l), so d = 1.5 and the loss is log(1 + exp(-1.5)) = 0.201413. With p = 0.8 it is
    0.8 * 0.201413 + 0.2 * 1.701413 = 0.501413. With ``center`` = 0.01, 0.01 * 2.5^2 = 0.0625 is added.

    Args:
        center: Coefficient c of the centring; 0 for none. 0.01 in 2312.09244.
    """

    center: float = 0.0

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"
    head: ClassVar[HeadName] = "reward"

    def __post_init__(self) -> None:
        _check_number(self.center, "center")

    @property
    def beta(self) -> float:
        """There is no strength: the reward is what the head says."""
        return 1.0

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """r itself."""
        return policy

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = sides(responses, responses.policy)
        p = responses.first(responses.preference)
        found = expected(p, -logsigmoid(chosen - rejected), -logsigmoid(rejected - chosen))
        return found + _centring(self.center, responses)


@dataclass(frozen=True)
class RewardRanking:
    """A reward model on rankings of K responses (2203.02155, equation 1; Plackett-Luce as in 2305.18290, A.3).

    ``pairwise``: the mean of -log sigmoid(r_i - r_j) over all pairs of responses with different ranks, i the better
    one. ``plackett_luce``: each response is chosen among itself and those ranked below it, -sum_k log(exp(r_k) /
    sum_{j >= k} exp(r_j)). Both are ``reward`` for two responses. A tie says nothing of the order of its responses. The
    centring is c (2 m)^2, with m the mean reward of the example: that of ``reward`` for two responses.

    Worked by hand, r = 2, -1 and 0.5 of the ranks 1, 2 and 3. The pairs have the differences 3, 1.5 and -1.5, so
    ``pairwise`` is (0.048587 + 0.201413 + 1.701413) / 3 = 0.650471. ``plackett_luce`` is log(1 + exp(-3) + exp(-1.5)) +
    log(1 + exp(1.5)) = 0.241311 + 1.701413 = 1.942725. With ``center`` = 0.01, 0.01 * (2 * 0.5)^2 = 0.01 is added.

    Args:
        form: Form of the loss.
        center: Coefficient c of the centring; 0 for none.
    """

    form: Literal["pairwise", "plackett_luce"] = "pairwise"
    center: float = 0.0

    forms: ClassVar[frozenset[Form]] = frozenset({"ranking"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"
    head: ClassVar[HeadName] = "reward"

    def __post_init__(self) -> None:
        _check_number(self.center, "center")

    @property
    def beta(self) -> float:
        """There is no strength: the reward is what the head says."""
        return 1.0

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """r itself."""
        return policy

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        if self.form == "plackett_luce":
            from seralign.objectives.plackett_luce import chosen_losses

            return chosen_losses(responses, responses.policy) + _centring(self.center, responses)
        return _pairwise(responses, -responses.preference, 0.0) + _centring(self.center, responses)


@dataclass(frozen=True)
class RewardScores:
    """A reward model on scored responses, with a margin that grows with the difference of the scores.

    The mean of -log sigmoid(r_i - r_j - m (s_i - s_j)) over all pairs of responses with different scores s, i the
    better one: the margin of Llama 2 (2307.09288, equation 2), which is larger for clearer preferences. Two responses
    with scores are a pair with a margin. Equal scores say nothing of the order. The centring is that of
    ``reward_ranking``.

    Worked by hand, ``margin`` = 0.5: r = 2 and 0.5 with the scores 4 and 2 give log(1 + exp(-(1.5 - 1))) = 0.474077,
    and r = 2, -1, 0.5 with the scores 4, 3, 2 the differences 3 - 0.5, 1.5 - 1 and -1.5 - 0.5, so
    (0.078889 + 0.474077 + 2.126928) / 3 = 0.893298.

    Args:
        margin: Factor m of the difference of two scores; 0 reads only which score is higher.
        center: Coefficient c of the centring; 0 for none.
    """

    margin: float = 1.0
    center: float = 0.0

    forms: ClassVar[frozenset[Form]] = frozenset({"scores"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = False
    unit: ClassVar[Literal["example", "token"]] = "example"
    head: ClassVar[HeadName] = "reward"

    def __post_init__(self) -> None:
        _check_number(self.margin, "margin")
        _check_number(self.center, "center")

    @property
    def beta(self) -> float:
        """There is no strength: the reward is what the head says."""
        return 1.0

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """r itself."""
        return policy

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        return _pairwise(responses, responses.preference, self.margin) + _centring(self.center, responses)


def _check_number(value: float, key: str) -> None:
    require(0.0 <= value < math.inf, key, "at least 0", value)


def _centring(center: float, responses: ResponseValues) -> Tensor:
    """c (2 m)^2 [N], with m the mean reward of an example."""
    return center * (2 * responses.mean(responses.policy)).square()


def _pairwise(responses: ResponseValues, goodness: Tensor, margin: float) -> Tensor:
    """The mean over the ordered pairs of each example [N] of -log sigmoid(r_i - r_j - margin (s_i - s_j)); 0 without
    any. ``goodness`` s [R] is higher for better responses."""
    import torch
    from torch.nn.functional import logsigmoid

    rewards, good = responses.padded(responses.policy, 0.0), responses.padded(goodness, torch.nan)
    above = good[:, :, None] - good[:, None, :]
    counted = above > 0
    losses = -logsigmoid((rewards[:, :, None] - rewards[:, None, :])[counted] - margin * above[counted])
    sums = losses.new_zeros(responses.examples).index_add(0, counted.nonzero()[:, 0], losses)
    # An example without an order has no loss, but its rewards stay a part of the graph.
    return sums / counted.sum(dim=(1, 2)).clamp(min=1) + 0.0 * responses.mean(responses.policy)

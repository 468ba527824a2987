"""Distributional preference alignment via optimal transport (2406.05882)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, Need, ResponseValues, log_ratio
from seralign.objectives.pairs import sides
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AOT:
    """AOT: -log sigmoid(beta (d_(k) - e_(k))), the k-th smallest of both over the step (2406.05882).

    d = log pi(y_w) - log pi(y_l), and e is the same under the reference: the margins of the policy as a whole are to
    exceed those of the reference at every quantile, not those of the same pair. An example's loss is that of the rank
    of its own d. The step's other examples are read without gradient, whatever pack or process has them. TRL's ``aot``
    sorts each batch of a device by itself.

    Labels are 0 or 1; a soft one has no quantile and is refused.

    Worked by hand, beta = 0.1, two pairs in a step: d = 4 and 1, e = -1 and 3. The ranks join 1 with -1 and 4 with 3,
    so the losses are log(1 + exp(-0.1)) = 0.644397 of the first pair and log(1 + exp(-0.2)) = 0.598139 of the second.

    Args:
        beta: Strength of the implicit reward.
    """

    beta: float = 0.1

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"
    needs: ClassVar[frozenset[Need]] = frozenset({"step"})
    hard_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        assert responses.step is not None
        step, at = responses.step.responses, responses.step.at
        assert step.reference is not None
        matched = at_rank(difference(step, step.policy), difference(step, step.reference))[at]
        return -logsigmoid(self.beta * (difference(responses, responses.policy) - matched))


@dataclass(frozen=True)
class UnpairedAOT:
    """Unpaired AOT: -log sigmoid(beta (r_(k) - s_(k))), the k-th smallest of both over the step (2406.05882).

    r are the log-ratios of the step's better responses, s those of its worse ones: which prompt they answer does not
    count. A response of a pair is compared with the other side's response of the same rank, which has no gradient there
    and its own comparison in its own pair's loss. A pair's loss is the mean of its two comparisons; its gradient is
    that of both.

    Labels are 0 or 1; a soft one has no quantile and is refused.

    Worked by hand, beta = 0.1, two pairs in a step: r = 2 and 5, s = -3 and -4. The ranks join 2 with -4 and 5 with -3,
    so the comparisons are log(1 + exp(-0.6)) = 0.437488 and log(1 + exp(-0.8)) = 0.371101. The first pair has 2
    (0.437488) and -3 (0.371101), and the loss 0.404294; so has the second.

    Args:
        beta: Strength of the implicit reward.
    """

    beta: float = 0.1

    forms: ClassVar[frozenset[Form]] = frozenset({"pair"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"
    needs: ClassVar[frozenset[Need]] = frozenset({"step"})
    hard_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats."""
        return log_ratio(policy, reference)

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        assert responses.step is not None
        better, worse = self._ratios(responses)
        all_better, all_worse = self._ratios(responses.step.responses)
        at = responses.step.at
        of_better = -logsigmoid(self.beta * (better - at_rank(all_better, all_worse)[at]))
        of_worse = -logsigmoid(self.beta * (at_rank(all_worse, all_better)[at] - worse))
        both = of_better + of_worse
        return both - both.detach() / 2

    def _ratios(self, responses: ResponseValues) -> tuple[Tensor, Tensor]:
        """Log-ratios of the better and of the worse responses [N]."""
        first, second = sides(responses, log_ratio(responses.policy, responses.reference))
        as_given = responses.first(responses.preference) >= 0.5
        return first.where(as_given, second), second.where(as_given, first)


def difference(responses: ResponseValues, values: Tensor) -> Tensor:
    """The value of the better response less that of the worse [N]."""
    first, second = sides(responses, values)
    return (2 * responses.first(responses.preference) - 1) * (first - second)


def at_rank(values: Tensor, others: Tensor) -> Tensor:
    """For each of ``values`` [M] the one of ``others`` [M] that has the same rank. Equal values keep their order."""
    ranked = others.new_empty(len(others))
    ranked[values.argsort(stable=True)] = others.sort().values
    return ranked

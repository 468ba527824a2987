"""Binary classifier optimization, on pairs and on unpaired labels (2404.04656)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from seralign.objectives.base import Array, Need, ResponseValues, log_ratio
from seralign.objectives.settings import check_beta
from seralign.records import Form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BCO:
    """BCO: -log sigmoid(beta rho - d) of a desirable response, -log sigmoid(-(beta rho - d)) of another (2404.04656).

    Each response is classified by itself. The loss of a pair is the sum over both, that of a labelled response its own;
    the loss of a step is the mean over its examples. d, the reward shift, is the mean reward of all responses of the
    steps before this one; it is 0 in the first step. TRL's BCO trainer counts those of the step itself, too, and its
    ``bco_pair`` has no shift.

    With a soft label of a pair, the expected loss.

    Worked by hand, beta = 0.1, a mean log-ratio of 1 so far, so d = 0.1: log-ratios 2 (w) and -3 (l) give the loss
    log(1 + exp(-0.1)) + log(1 + exp(-0.4)) = 0.644397 + 0.513015 = 1.157412. The swapped pair has
    log(1 + exp(0.4)) + log(1 + exp(0.1)) = 1.657412, and with p = 0.8 the loss is 1.257412. As a desirable and an
    undesirable response by themselves, they have the losses 0.644397 and 0.513015.

    Args:
        beta: Strength of the implicit reward.
    """

    beta: float = 0.1

    forms: ClassVar[frozenset[Form]] = frozenset({"pair", "label"})
    reads: ClassVar[Literal["all", "first"]] = "all"
    uses_reference: ClassVar[bool] = True
    unit: ClassVar[Literal["example", "token"]] = "example"
    needs: ClassVar[frozenset[Need]] = frozenset({"state"})
    # Responses so far, and their mean log-ratio.
    initial_state: ClassVar[tuple[float, ...]] = (0.0, 0.0)

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """The log-ratio, in nats. The shift is the same for all responses."""
        return log_ratio(policy, reference)

    def next_state(self, state: tuple[float, ...], step: ResponseValues) -> tuple[float, ...]:
        """Count the responses of a step in."""
        count, mean = state
        rewards = self.reward(step.policy, step.reference, step.lengths)[~step.preference.isnan()]
        total = count + len(rewards)
        return total, mean + (float(rewards.mean()) - mean) * len(rewards) / total

    def loss(self, responses: ResponseValues) -> Tensor:
        """[N]."""
        from torch.nn.functional import logsigmoid

        _, mean = responses.state
        reward = self.beta * (self.reward(responses.policy, responses.reference, responses.lengths) - mean)
        # A response without a preference is a mismatched one, which another term of a sum asked for.
        unlabelled, good = responses.preference.isnan(), responses.preference.nan_to_num().to(reward.dtype)
        own = (good * -logsigmoid(reward) + (1 - good) * -logsigmoid(-reward)).masked_fill(unlabelled, 0.0)
        return own.new_zeros(responses.examples).index_add(0, responses.example, own)

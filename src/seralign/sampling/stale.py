"""Whether a server still serves the weights before: its log-probabilities are nearer to those than to the policy's.

A tolerance for rounding cannot tell, because a policy that moved little differs from the one before by less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from seralign.sampling.base import SampledPolicy
from seralign.sampling.probe import Own, departure, drawn_logps, own_answers
from seralign.sampling.wire import Choice

# Standard errors from half of the way, beyond which a server is on one side.
_ERRORS = 3.0


@dataclass(frozen=True)
class Nearness:
    """Where a server is between a policy (0) and the one before (1), by least squares over drawn tokens.

    Args:
        share: The place.
        error: Its standard error, from what the fit leaves over, which is rounding.
        apart: Mean absolute difference of the two policies' log-probabilities, in nats a token.
    """

    share: float
    error: float
    apart: float

    @property
    def is_stale(self) -> bool:
        """Whether it is nearer to the policy before, by more than rounding explains."""
        return self.share - 0.5 > _ERRORS * self.error

    @property
    def is_sure(self) -> bool:
        """Whether a server of the policy before would have been found."""
        return _ERRORS * self.error < 0.5


def nearness(before: SampledPolicy, own: Sequence[Own], served: Sequence[Sequence[float]]) -> Nearness | None:
    """How near a server is to the policy before; None if that has the same log-probabilities.

    Args:
        before: The policy before, which is loaded and released.
        own: The own answers of the policy that should be served.
        served: The server's log-probabilities of the drawn answers.
    """
    logps = drawn_logps(before, own)
    return nearness_of(*(list(chain(*parts)) for parts in ([one.drawn_logps for one in own], logps, served)))


def nearness_of(policy: Sequence[float], before: Sequence[float], served: Sequence[float]) -> Nearness | None:
    """The same from the log-probabilities of all tokens [T] under both policies and on the server."""
    own = torch.tensor(policy, dtype=torch.float64)
    step = torch.tensor(before, dtype=torch.float64) - own
    found = torch.tensor(served, dtype=torch.float64) - own
    size = float(step.square().sum())
    if size == 0:
        return None
    share = float((found * step).sum()) / size
    rest = float((found - share * step).square().sum())
    error = math.sqrt(rest / (len(own) - 1) / size) if len(own) > 1 else math.inf
    return Nearness(share, error, float(step.abs().mean()))


def answers_alike(policy: SampledPolicy, before: SampledPolicy, own: Sequence[Own], tolerance: float) -> bool:
    """Whether the greedy answers of the policy before would pass for the policy's own."""
    others = own_answers(before, [one.prompt for one in own], max(len(one.ids) for one in own))
    return all(
        departure(policy, one, Choice("", other.ids, ""), tolerance) is None
        for one, other in zip(own, others, strict=True)
    )

"""Functions that losses of pairs share.

Legend: N pairs. p is the probability that the first response of a pair is the better one, and h its margin.

Two forms of a soft label, for losses ``f(h)`` of the margin:

- ``geometric`` (2409.06691): f((2p - 1) h). The gradient is zero at p = 1/2.
- ``conservative``: the expected loss, p f(h) + (1 - p) f(-h). It is least where the policy's own probability is p.

Both are f(h) at p = 1, and both are the loss of the swapped pair with 1 - p. Losses that are no function of the margin
have the conservative form alone, p f(w, l) + (1 - p) f(l, w), or one of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, cast

from seralign.objectives.base import Array, Objective, ResponseValues

if TYPE_CHECKING:
    from torch import Tensor

SoftLabels = Literal["geometric", "conservative"]
# Above e^80 an exponential is held, in value and gradient: the square of more is beyond float32.
LARGEST_EXPONENT = 80.0


def sides(responses: ResponseValues, values: Tensor) -> tuple[Tensor, Tensor]:
    """Values [R] of the first and of the second responses, [N] each."""
    return responses.first(values), responses.second(values)


def reward_sides(objective: Objective, responses: ResponseValues) -> tuple[Tensor, Tensor]:
    """Implicit rewards without beta of the first and of the second responses, [N] each."""
    return sides(responses, objective.reward(responses.policy, responses.reference, responses.lengths))


def margin(objective: Objective, responses: ResponseValues) -> Tensor:
    """h [N]: the difference of the implicit rewards, without beta and without the label."""
    chosen, rejected = reward_sides(objective, responses)
    return chosen - rejected


def soft_loss(
    form: SoftLabels, objective: Objective, responses: ResponseValues, loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """A loss of the margin under soft labels [N].

    Args:
        form: The form of the soft label.
        objective: Its reward gives the margins.
        responses: Of N pairs.
        loss: The loss f of margins [N].
    """
    return soft_loss_of(form, margin(objective, responses), responses, loss)


def soft_loss_of(
    form: SoftLabels, margin: Tensor, responses: ResponseValues, loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """As ``soft_loss``, of margins [N] that are not differences of rewards."""
    p = responses.first(responses.preference)
    if form == "geometric":
        return loss((2 * p - 1) * margin)
    return expected(p, loss(margin), loss(-margin))


def expected(p: Tensor, as_given: Tensor, swapped: Tensor) -> Tensor:
    """The expectation [N] of a loss over the label: p times that of the pair as given, 1 - p times that of the swapped
    pair. It is exact where the label is certain."""
    return p * as_given + (1 - p) * swapped


def smoothed(p: Tensor, flips: float) -> Tensor:
    """Probability [N] that the first response is the better one, if labels are flipped with this probability."""
    return p * (1 - flips) + (1 - p) * flips


def mean_nll(responses: ResponseValues) -> Tensor:
    """The expected negative log-likelihood per token of the better response [N]."""
    chosen, rejected = sides(responses, -responses.policy / responses.lengths)
    return expected(responses.first(responses.preference), chosen, rejected)


def elementwise(function: Callable[[Tensor], Tensor], values: Array) -> Array:
    """A function of tensors on a tensor, a numpy array or a number, with the same result to the last bit."""
    import torch

    if isinstance(values, torch.Tensor):
        return function(values)
    found = function(torch.as_tensor(values, dtype=torch.float64))
    return cast(Array, found.numpy() if getattr(values, "shape", ()) else float(found))

"""One record in, one record out: what every objective reads and returns, and how it is put together.

N pairs; w is the preferred (chosen) response of a pair, l the dispreferred (rejected) one.

The implicit reward of a response is ``beta * score``, and the margin of a pair is
``h = score(w) - score(l)``, in nats and without beta. Each objective has one ``score``; training, scoring,
selection and bootstrapping all call that one.

Soft labels take the geometric form (2409.06691): ``h`` is replaced by ``(2p - 1) h``, with p the probability
that w is the better response. So p = 1 is the plain objective to the last bit, p < 1/2 is the swapped pair with
1 - p, and at p = 1/2 the loss is a constant and its gradient is zero, whatever the objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", Tensor, np.ndarray, float)


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Log-probabilities of N pairs under the policy and the reference.

    Args:
        policy_chosen: log pi(y_w | x), summed over the response tokens, in nats; float32 or float64 [N].
        policy_rejected: log pi(y_l | x) [N]; None where the objective reads the chosen response alone.
        reference_chosen: log pi_ref(y_w | x) [N]; None for an objective without reference.
        reference_rejected: log pi_ref(y_l | x) [N]; None like ``reference_chosen`` or ``policy_rejected``.
        chosen_length: |y_w|, response tokens [N], any number type.
        rejected_length: |y_l| [N]; None like ``policy_rejected``.
        p: Probability in [0, 1] that the chosen response is the better one [N].

    Raises:
        ValueError: a tensor is not [N], which would broadcast silently, or a log-probability is in half precision,
            where a sum over a response has lost its digits.
    """

    policy_chosen: Tensor
    policy_rejected: Tensor | None
    reference_chosen: Tensor | None
    reference_rejected: Tensor | None
    chosen_length: Tensor
    rejected_length: Tensor | None
    p: Tensor

    def __post_init__(self) -> None:
        shape = self.policy_chosen.shape
        if len(shape) != 1:
            raise ValueError(f"policy_chosen must have shape [N], got {list(shape)}")
        logps = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
        for name in (*logps, "chosen_length", "rejected_length", "p"):
            value: Tensor | None = getattr(self, name)
            if value is None:
                continue
            if value.shape != shape:
                raise ValueError(f"{name} must have the shape of policy_chosen, {list(shape)}, got {list(value.shape)}")
            if name in logps and value.dtype not in (torch.float32, torch.float64):
                raise ValueError(f"{name} must be float32 or float64, got {value.dtype}")


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """Loss and metrics of N pairs.

    Args:
        loss: Loss of each pair [N]; the only field with a gradient.
        chosen_reward: Implicit reward of the chosen response, beta * score [N].
        rejected_reward: Implicit reward of the rejected response [N]; None where the objective does not read it.
        margin: h = score(w) - score(l) [N], without beta and without the soft label; None like ``rejected_reward``.
    """

    loss: Tensor
    chosen_reward: Tensor
    rejected_reward: Tensor | None
    margin: Tensor | None


class Score(Protocol):
    """Implicit reward without beta of responses, in nats: (log pi, log pi_ref, tokens), each [N], to [N].

    Works on tensors, numpy arrays and numbers alike.
    """

    def __call__(self, policy: Array, reference: Array | None, length: Array) -> Array: ...


@dataclass(frozen=True, slots=True)
class Objective:
    """A preference objective with its settings.

    Args:
        name: Name in the configuration.
        beta: Strength of the implicit reward: reward = beta * score.
        uses_reference: ``score`` needs the reference's log-probabilities.
        uses_rejected: ``loss`` reads the rejected response.
        unit: What the loss of a step is averaged over: ``pair``, sum of weight * loss over the number of pairs;
            ``token``, sum of weight * loss over the sum of chosen_length. Weights are relative to their mean over
            the whole training table, so that a pair's weight counts whatever its company in the step.
        score: Implicit reward without beta.
        loss: Loss and metrics of N pairs. Differentiable in the policy's log-probabilities.
    """

    name: str
    beta: float
    uses_reference: bool
    uses_rejected: bool
    unit: Literal["pair", "token"]
    score: Score
    loss: Callable[[LogProbs], ObjectiveOutput]


def log_ratio(policy: Array, reference: Array | None, length: Array) -> Array:
    """rho(y) = log pi(y|x) - log pi_ref(y|x), in nats (2305.18290, the reward of equation 5 without beta)."""
    if reference is None:
        raise ValueError("the log-ratio needs the reference's log-probabilities, got None")
    return policy - reference


def pairwise(
    name: str, beta: float, uses_reference: bool, score: Score, of_margin: Callable[[Tensor], Tensor]
) -> Objective:
    """An objective that depends on a pair through its margin alone: loss = of_margin((2p - 1) h)."""

    def loss(logps: LogProbs) -> ObjectiveOutput:
        if logps.policy_rejected is None or logps.rejected_length is None:
            raise ValueError(f"{name} compares two responses: policy_rejected and rejected_length must be given")
        chosen = score(logps.policy_chosen, logps.reference_chosen, logps.chosen_length)
        rejected = score(logps.policy_rejected, logps.reference_rejected, logps.rejected_length)
        margin = chosen - rejected
        return ObjectiveOutput(
            loss=of_margin((2 * logps.p - 1) * margin),
            chosen_reward=beta * chosen.detach(),
            rejected_reward=beta * rejected.detach(),
            margin=margin.detach(),
        )

    return Objective(name, beta, uses_reference, uses_rejected=True, unit="pair", score=score, loss=loss)

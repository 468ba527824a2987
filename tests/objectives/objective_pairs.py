"""Pairs as objectives read them, from the tensors of their two sides."""

from __future__ import annotations

import torch
from torch import Tensor

from seralign.objectives import OBJECTIVES, Objective, ResponseValues

# The losses whose geometric form the shared tests know by formula; ``objective_cases`` has every objective.
PAIRWISE = ("dpo", "ipo", "slic", "simpo")


def pairs(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor | None, reference_rejected: Tensor | None,
    chosen_length: Tensor, rejected_length: Tensor, p: Tensor,
) -> ResponseValues:  # fmt: skip
    """N pairs; every argument [N]."""
    count = len(chosen)
    reference = None
    if reference_chosen is not None and reference_rejected is not None:
        reference = torch.cat([reference_chosen, reference_rejected])
    return ResponseValues(
        policy=torch.cat([chosen, rejected]),
        reference=reference,
        lengths=torch.cat([chosen_length, rejected_length]),
        example=torch.arange(count).repeat(2),
        preference=torch.cat([p, 1 - p]),
        examples=count,
    )


def margin(objective: Objective, responses: ResponseValues) -> Tensor:
    """h [N] without the soft label."""
    reward = objective.reward(responses.policy, responses.reference, responses.lengths)
    return responses.first(reward) - responses.second(reward)


def objective(name: str, beta: float, target_margin: float = 0.0) -> Objective:
    """An objective by name with its settings; only simpo has a target margin."""
    return OBJECTIVES[name](beta, target_margin) if name == "simpo" else OBJECTIVES[name](beta)

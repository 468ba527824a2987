"""Log-probabilities of responses under a model.

Legend: B rows, T tokens of a row, R responses, N tokens of all responses, W width of the hidden states.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from seralign.policy.abilities import abilities
from seralign.policy.attention import is_layout
from seralign.policy.forward import token_logps
from seralign.policy.precision import exact_dtype


def response_logps(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    source: Tensor,
    target: Tensor,
    lengths: Tensor,
    position_ids: Tensor | None = None,
    ends: Tensor | None = None,
) -> Tensor:
    """Summed log-probabilities of responses; each token is conditioned on all tokens before it.

    Only response tokens reach the output layer, one chunk at a time. The softmax is computed in float32 and the sum in
    float64, so padding, other sequences in the batch and chunks change nothing but the rounding of the model.

    Args:
        model: A causal language model.
        input_ids: [B, T] token ids.
        attention_mask: [B, T], one for tokens and zero for padding; or the layout of a packed row.
        source: [N] position in the flattened ``input_ids`` of the token that predicts each target.
        target: [N] tokens of all responses, one response after the other.
        lengths: [R] number of tokens of each response.
        position_ids: [B, T], for packed rows.
        ends: [R], not read: a batch of ``seralign.policy.packing`` has it for reward models.

    Returns:
        [R] log-probabilities in nats, differentiable.

    Raises:
        ValueError: the model cannot take packed rows, or not with sequences of this length.
        ModelError: the model has an adapter with virtual tokens.
    """
    return summed(response_token_logps(model, input_ids, attention_mask, source, target, position_ids), lengths)


def summed(logps_N: Tensor, lengths: Tensor) -> Tensor:
    """Sums of the tokens of each response, in the exact data type of the device.

    Args:
        logps_N: [N] the tokens of all responses, one response after the other.
        lengths: [R] number of tokens of each response.

    Returns:
        [R].
    """
    exact = exact_dtype(logps_N.device)
    is_token = torch.arange(int(lengths.max()), device=logps_N.device) < lengths[:, None]
    return (
        torch.zeros(is_token.shape, dtype=exact, device=logps_N.device)
        .masked_scatter(is_token, logps_N.to(exact))
        .sum(dim=1)
    )


def response_token_logps(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    source: Tensor,
    target: Tensor,
    position_ids: Tensor | None = None,
    ends: Tensor | None = None,
    *,
    collisions: bool = False,
) -> Tensor:
    """Log-probability of each response token given all tokens before it.

    Arguments and errors are those of ``response_logps``, which sums these values. With ``collisions``, a second column
    has log sum over v of p(v)^2 of the distribution that predicts the token, without gradient.

    Returns:
        [N] float32 in nats, differentiable; the tokens of all responses, one response after the other. [N, 2] with
        ``collisions``.
    """
    able = abilities(model)
    if is_layout(attention_mask) and position_ids is not None and able.longest < sys.maxsize:
        longest = int(position_ids.max()) + 1
        if longest > able.longest:
            raise ValueError(
                f"a packed row has a sequence of {longest} tokens, and the model takes at most {able.longest}; use "
                "make_batch"
            )
    return token_logps(
        model,
        input_ids,
        attention_mask,
        source,
        target,
        position_ids,
        own_attention=able.attention,
        own_head=able.own_head,
        collisions=collisions,
    )

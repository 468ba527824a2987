"""Log-probability of responses under a model: the one place where logits meet tokens.

Legend: B sequences, T tokens of the longest, K = positions whose logits are computed, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def pad_sequences(sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> dict[str, Tensor]:
    """Right-padded tensors of (prompt ids, response ids).

    Returns:
        ``input_ids``, ``attention_mask`` and ``response_mask``, each [B, T]. Masks come from lengths, never from
        token values, so the padding token may be any token.
    """
    width = max(len(prompt) + len(response) for prompt, response in sequences)
    input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    response_mask = torch.zeros_like(input_ids)
    for row, (prompt, response) in enumerate(sequences):
        start, end = len(prompt), len(prompt) + len(response)
        input_ids[row, :start] = torch.as_tensor(prompt, dtype=torch.long)
        input_ids[row, start:end] = torch.as_tensor(response, dtype=torch.long)
        attention_mask[row, :end] = 1
        response_mask[row, start:end] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask, "response_mask": response_mask}


def response_logps(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, response_mask: Tensor) -> Tensor:
    """Summed log-probability of each sequence's response tokens, given all tokens before them.

    Only response positions reach the softmax, and logits are computed from the first response on. The softmax is
    float32 and the sum float64, so that padding, batch mates and chunks change nothing beyond the model's own
    rounding.

    Args:
        model: A causal language model.
        input_ids: [B, T] right-padded token ids.
        attention_mask: [B, T] one for tokens, zero for padding.
        response_mask: [B, T] one for response tokens; the first token of a sequence is never one.

    Returns:
        [B] log-probabilities in nats, differentiable.
    """
    first = int(response_mask.any(dim=0).int().argmax())
    if first == 0:
        raise ValueError("a response cannot begin with the first token: there is nothing to condition it on")
    keep = input_ids.shape[1] - first + 1
    options: dict[str, Any] = {"logits_to_keep": keep} if _keeps_logits(model) else {}
    output = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **options)
    logits_BKV = output.logits[:, -keep:-1]
    mask_BK = response_mask[:, first:].bool()
    targets_N = input_ids[:, first:][mask_BK]
    logits_NV = logits_BKV[mask_BK].float()
    logps_N = logits_NV.gather(1, targets_N[:, None])[:, 0] - logits_NV.logsumexp(dim=1)
    exact = torch.float32 if logps_N.device.type == "mps" else torch.float64
    logps_BK = torch.zeros(mask_BK.shape, dtype=exact, device=logps_N.device)
    return logps_BK.masked_scatter(mask_BK, logps_N.to(exact)).sum(dim=1)


def _keeps_logits(model: nn.Module) -> bool:
    inner: Any = model
    while hasattr(inner, "module"):
        inner = inner.module
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return "logits_to_keep" in inspect.signature(inner.forward).parameters

"""One forward pass, from token ids to the log-probabilities of target tokens, or to the rewards of responses.

Legend: B rows, T tokens of a row, N target tokens, R responses, W width of the hidden states, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from seralign.policy.attention import PACKED, block_mask, is_layout
from seralign.policy.head import linear_logps, log_collisions, log_collisions_of, module_logps

# The name since transformers 5.2, and the one before.
_NAMES = ("is_activation_checkpointing", "is_gradient_checkpointing")
_CHECKPOINTS = next(name for name in _NAMES if hasattr(PreTrainedModel, name))
# Settings that give a soft cap of the logits.
_CAP = "final_logit_softcapping"


def token_logps(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    source: Tensor,
    target: Tensor,
    position_ids: Tensor | None = None,
    *,
    own_attention: str | None,
    own_head: bool,
    collisions: bool = False,
) -> Tensor:
    """Log-probability of each target token given all tokens before it.

    Args:
        model: A causal language model, with or without accelerate's wrappers and an adapter.
        input_ids: [B, T].
        attention_mask: [B, T], or the layout of a packed row.
        source: [N] place in the flattened ``input_ids`` of the token that predicts each target.
        target: [N].
        position_ids: [B, T], for packed rows.
        own_attention: The model's attention implementation for rows that are not packed; None keeps the current one.
        own_head: Let the model compute the logits of all tokens.
        collisions: Also return ``log_collisions`` of each token, without gradient.

    Returns:
        [N] float32, in nats; [N, 2] with ``collisions``.
    """
    inner, inputs = inner_model(model), _inputs(input_ids, attention_mask, position_ids)
    with _attention(inner, PACKED if is_layout(attention_mask) else own_attention):
        if own_head:
            logits = _rows(model(**inputs).logits, source).float()
            found = logits.gather(1, target[:, None])[:, 0] - logits.logsumexp(dim=1)
            return torch.stack([found, log_collisions_of(logits.detach())], dim=1) if collisions else found
        with _head_replaced(inner, source, target, collisions):
            found = model(**inputs).logits
            return found[0] if collisions else found.view(-1)


def end_rewards(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    ends: Tensor,
    position_ids: Tensor | None = None,
    *,
    own_attention: str | None,
    own_head: bool,
) -> Tensor:
    """The score of a reward model at the last token of each response.

    Args:
        model: A model for sequence classification with one label, with or without wrappers and an adapter.
        input_ids: [B, T].
        attention_mask: [B, T], or the layout of a packed row.
        ends: [R] place in the flattened ``input_ids`` of the last token of each response.
        position_ids: [B, T], for packed rows.
        own_attention: As for ``token_logps``.
        own_head: Let the model choose the place of its score, one row at a time; each row is one response.

    Returns:
        [R] float32.
    """
    inner = inner_model(model)
    with _attention(inner, PACKED if is_layout(attention_mask) else own_attention):
        if own_head:
            counts = attention_mask.sum(dim=1).tolist()
            rows = [input_ids[row : row + 1, :count] for row, count in enumerate(counts)]
            found = [model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0] for ids in rows]
            return torch.cat(found).float()
        with _score_replaced(inner, ends):
            return model(**_inputs(input_ids, attention_mask, position_ids)).logits[0]


def is_reward_model(inner: Any) -> bool:
    """Whether a model has a score instead of an output layer over the vocabulary."""
    return isinstance(inner, PreTrainedModel) and type(inner).__name__.endswith("ForSequenceClassification")


def _inputs(input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None) -> dict[str, Any]:
    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
    if is_layout(attention_mask) and input_ids.device.type != "cpu":
        inputs["attention_mask"] = block_mask(attention_mask, input_ids.device)
    if position_ids is not None:
        inputs["position_ids"] = position_ids
    return inputs


def inner_model(model: nn.Module) -> Any:
    """The transformers model inside wrappers and adapters."""
    inner: Any = model
    while hasattr(inner, "module"):
        inner = inner.module
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def has_virtual_tokens(model: nn.Module) -> bool:
    """Whether an adapter puts its own tokens before the prompt (prompt and prefix tuning)."""
    return any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values())


def _rows(x: Tensor, source: Tensor) -> Tensor:
    """[N, W] from [B, T, W]: the places that predict the targets; the end of a shared prompt once for each response."""
    # The backward pass of indexing adds the gradients of a repeated place in an order that varies between runs.
    return functional.embedding(source, x.flatten(0, -2))


@contextmanager
def _attention(inner: Any, name: str | None) -> Iterator[None]:
    """Set the attention implementation for a forward pass; None keeps the current one."""
    before = None if name is None else inner.config._attn_implementation
    # A checkpointed layer runs again in the backward pass and must find the same implementation.
    checkpoints = getattr(inner, _CHECKPOINTS, False)
    stays = checkpoints and getattr(inner, "training", False) and torch.is_grad_enabled()
    if before != name:
        inner.config._attn_implementation = name
    try:
        yield
    finally:
        if before != name and not stays:
            inner.config._attn_implementation = before


@contextmanager
def _head_replaced(inner: Any, source: Tensor, target: Tensor, collisions: bool) -> Iterator[None]:
    """Let the output layer return log-probabilities [1, N, 1] of the targets instead of logits [B, T, V].

    The model still calls the layer in its own forward pass, so wrappers that gather its weights or count its
    gradients work as usual.
    """
    head, text = inner.get_output_embeddings(), inner.config.get_text_config()
    cap = getattr(text, _CAP, None)
    forward: Callable[[Tensor], Tensor] = head.forward
    replaced = vars(head).get("forward")  # hooks that move weights between devices replace it too

    def logps(hidden: Tensor) -> Tensor:
        hidden = _rows(hidden, source)
        if type(head).forward is nn.Linear.forward and replaced is None:
            found = linear_logps(head, hidden, target, cap)
        else:
            found = module_logps(forward, text.vocab_size, hidden, target, cap)
        if collisions:
            found = torch.stack([found, log_collisions(forward, text.vocab_size, hidden, cap)], dim=1)[None]
        else:
            found = found[None, :, None]
        return found.clone()  # FSDP refuses views

    head.forward = logps
    if cap is not None:
        setattr(text, _CAP, None)
    try:
        yield
    finally:
        if replaced is None:
            del head.forward
        else:
            head.forward = replaced
        if cap is not None:
            setattr(text, _CAP, cap)


@contextmanager
def _score_replaced(inner: Any, ends: Tensor) -> Iterator[None]:
    """Let the score return the rewards [R] of all responses, whatever row and place the model then reads.

    The layer is computed in the data type of its weights, which in mixed precision are float32.
    """
    score, text = inner.score, inner.config.get_text_config()
    pad = text.pad_token_id
    forward: Callable[[Tensor], Tensor] = score.forward
    replaced = vars(score).get("forward")  # hooks that move weights between devices replace it too

    def rewards(hidden: Tensor) -> Tensor:
        rows = _rows(hidden, ends).to(next(score.parameters()).dtype)
        with torch.autocast(rows.device.type, enabled=False):
            found = forward(rows).float()
        return found.view(1, 1, -1).expand(*hidden.shape[:2], -1).clone()  # FSDP refuses views

    score.forward = rewards
    # Without a padding token, transformers refuses several rows; here it decides nothing.
    text.pad_token_id = 0 if pad is None else pad
    try:
        yield
    finally:
        text.pad_token_id = pad
        if replaced is None:
            del score.forward
        else:
            score.forward = replaced

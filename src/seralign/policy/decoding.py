"""The sampling loop with a key-value cache. A prompt is encoded once, and finished responses are dropped.

It replaces transformers' ``generate``, which encodes a prompt once a response, copies the whole cache at every step and
computes finished rows until the last one ends. ``benchmarks/sampling.py`` compares both, and transformers' continuous
batching, which is also slower than this loop on a CPU.

Legend: P prompts, W tokens of the longest, R rows (responses being sampled), N new tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.generation.utils import GenerationMixin

from seralign.policy.forward import has_virtual_tokens, inner_model
from seralign.policy.growing_cache import bytes_a_token, growing_cache, holds_keys_and_values_alone, selected
from seralign.policy.precision import exact_dtype

# Turns logits [R, V] and uniform numbers [R] into token ids [R]; -1 where the logits are not finite.
Draw = Callable[[Tensor, Tensor], Tensor]

# Memory for the keys and values of rows that are sampled together; on a GPU, a quarter of its memory.
CACHE_BYTES = 2 << 30
# Dropping finished rows copies the others' cache, which costs less than one of their steps. It pays from this share on.
LEAVING_SHARE = 1 / 8
# Asking a GPU which rows have finished makes the CPU wait for it.
_STEPS_BETWEEN_QUESTIONS = 16


def why_not_shared(model: nn.Module) -> str | None:
    """Why responses cannot be sampled from a shared cache of their prompt; None if they can.

    They can if a token needs only the keys and values of earlier tokens, and if ``generate`` would call the model only
    with ids, mask, positions and cache.
    """
    inner = inner_model(model)
    if has_virtual_tokens(model):
        return "its adapter puts virtual tokens before the prompt"
    if not {"input_ids", "attention_mask", "position_ids", "past_key_values"} <= _arguments(inner):
        return "its forward pass does not accept positions or a cache"
    for name in ("prepare_inputs_for_generation", "_update_model_kwargs_for_generation", "_sample"):
        if getattr(type(inner), name, None) is not getattr(GenerationMixin, name):
            return f"it has its own {name}"
    if inner.config.is_encoder_decoder or inner._is_stateful or not inner._supports_default_dynamic_cache():
        return "its cache holds more than keys and values"
    return None if holds_keys_and_values_alone(inner.config) else "its cache holds more than keys and values"


def pad_left(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Left-padded ids [P, W] and mask [P, W]. Only the mask distinguishes padding from tokens."""
    width = max(len(prompt) for prompt in prompts)
    ids_PW = torch.zeros(len(prompts), width, dtype=torch.long)
    mask_PW = torch.zeros_like(ids_PW)
    for row, prompt in enumerate(prompts):
        ids_PW[row, width - len(prompt) :] = torch.tensor(prompt)
        mask_PW[row, width - len(prompt) :] = 1
    return ids_PW, mask_PW


@torch.no_grad()
def decode(
    model: nn.Module, prompts: Sequence[Sequence[int]], uniform_RN: Tensor, draw: Draw, end_tokens: frozenset[int]
) -> Tensor:
    """Sample responses to each prompt, as many as ``uniform_RN`` has rows for it.

    A row's tokens depend only on its prompt and its uniform numbers. The rows sampled beside it, and when they finish,
    change only the rounding of the model's kernels.

    Args:
        model: A causal language model for which ``why_not_shared`` is None, in evaluation mode.
        prompts: Token ids of P prompts, at least one each.
        uniform_RN: [R, N] numbers in [0, 1) on the CPU. R is a multiple of P; the rows of a prompt are adjacent.
        draw: Turns logits and uniform numbers into tokens.
        end_tokens: Ids that end a response.

    Returns:
        [R, N] ids on the CPU. After a row is dropped its ids are -1; so is an id whose logits were not finite, which
        ends the row. Ids between a row's first end token and the step that drops it have no meaning.
    """
    device = next(model.parameters()).device
    forward = model_forward(model)
    read = prefilled(forward, model, prompts, device)
    ends = torch.tensor(sorted(end_tokens), dtype=torch.long, device=device)
    rows, length = uniform_RN.shape
    numbers_RN = uniform_RN.to(device, exact_dtype(device))
    prompt_R = torch.arange(len(prompts), device=device).repeat_interleave(rows // len(prompts))
    together = rows_together(read.cache, read.mask_PW.shape[1] + length, device)
    sampled = []
    for start in range(0, rows, together):
        own_R = prompt_R[start : start + together]
        state = (selected(read.cache, own_R), read.logits_PV[own_R], read.mask_PW[own_R])
        sampled.append(decode_rows(forward, *state, numbers_RN[start : start + together], draw, ends).cpu())
    return torch.cat(sampled)


class Rows(Protocol):
    """What was computed of rows, of which some can be kept: a cache."""

    def batch_select_indices(self, indices: Tensor, /) -> None: ...


Kept = TypeVar("Kept", bound=Rows)
# (cache, ids [R, T], mask [R, all tokens] or None, positions [R, T]) to the logits [R, V] that follow the last token.
Forward = Callable[[Kept, Tensor, Tensor | None, Tensor], Tensor]


@dataclass(frozen=True)
class Prefilled:
    """Prompts that a model has read: its cache, the logits [P, V] after each prompt, and the mask [P, W]."""

    cache: DynamicCache
    logits_PV: Tensor
    mask_PW: Tensor


def prefilled(
    forward: Forward[DynamicCache], model: nn.Module, prompts: Sequence[Sequence[int]], device: torch.device
) -> Prefilled:
    """Read prompts together, padded on the left."""
    ids_PW, mask_PW = (tensor.to(device) for tensor in pad_left(prompts))
    positions_PW = (mask_PW.cumsum(dim=1) - 1).clamp(min=0)
    cache = growing_cache(inner_model(model).config)
    logits_PV = forward(cache, ids_PW, mask_PW if _padded(mask_PW) else None, positions_PW)
    return Prefilled(cache, logits_PV, mask_PW)


def rows_together(cache: DynamicCache, tokens: int, device: torch.device) -> int:
    """How many rows of so many tokens are sampled together."""
    room = CACHE_BYTES if device.type != "cuda" else torch.cuda.get_device_properties(device).total_memory // 4
    return max(1, room // (bytes_a_token(cache) * tokens))


def decode_rows(
    forward: Forward[Kept],
    cache: Kept,
    logits_RV: Tensor,
    mask_RW: Tensor,
    uniform_RN: Tensor,
    draw: Draw,
    ends: Tensor,
) -> Tensor:
    """Sample from rows whose prompts have been read; result and arguments as in ``decode``."""
    (rows, length), width, device = uniform_RN.shape, mask_RW.shape[1], mask_RW.device
    tokens_RN = torch.full((rows, length), -1, device=device)
    padded = _padded(mask_RW)
    # R shrinks in the loop; ``row_R`` are the rows that are still there.
    row_R = torch.arange(rows, device=device)
    done_R = torch.zeros(rows, dtype=torch.bool, device=device)
    position_R = mask_RW.sum(dim=1)
    mask_RT = torch.cat([mask_RW, mask_RW.new_ones(rows, length)], dim=1)
    between = 1 if device.type == "cpu" else _STEPS_BETWEEN_QUESTIONS
    for step in range(length):
        token_R = draw(logits_RV, uniform_RN[row_R, step])
        tokens_RN[row_R, step] = token_R
        done_R |= torch.isin(token_R, ends) | (token_R < 0)
        if step + 1 == length:
            break
        if step % between == 0:
            finished = int(done_R.sum())
            if finished == len(row_R):
                break
            if finished > LEAVING_SHARE * len(row_R):
                stays = (~done_R).nonzero()[:, 0]
                cache.batch_select_indices(stays)
                row_R, token_R, position_R, mask_RT = (it[stays] for it in (row_R, token_R, position_R, mask_RT))
                done_R = torch.zeros_like(row_R, dtype=torch.bool)
        mask = mask_RT[:, : width + step + 1] if padded else None
        logits_RV = forward(cache, token_R.clamp(min=0)[:, None], mask, (position_R + step)[:, None])
    return tokens_RN


def model_forward(model: nn.Module) -> Forward[DynamicCache]:
    """The forward pass of a model with a cache."""
    # An index in place of 1: slicing gives hidden states that are not contiguous, and with frozen weights PyTorch then
    # multiplies each row with a copy of the output layer of its own.
    last = torch.tensor([-1], device=next(model.parameters()).device)
    options: dict[str, Any] = {"logits_to_keep": last} if "logits_to_keep" in _arguments(inner_model(model)) else {}

    def forward(cache: DynamicCache, ids_RT: Tensor, mask: Tensor | None, positions_RT: Tensor) -> Tensor:
        output = model(
            input_ids=ids_RT,
            attention_mask=mask,
            position_ids=positions_RT,
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
            **options,
        )
        return output.logits[:, -1]

    return forward


def _padded(mask: Tensor) -> bool:
    return not bool(mask.all())


def _arguments(model: nn.Module) -> frozenset[str]:
    return frozenset(inspect.signature(model.forward).parameters)

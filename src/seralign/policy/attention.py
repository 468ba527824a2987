"""Attention of packed rows: each response sees its prompt and itself, and no mask is as large as the row.

Legend: T tokens of a row, H query heads, K key heads, G = H / K, D head width; a *segment* is a prompt or a response,
q and k count the queries and the keys of one block.

A *layout* [1, 1, S, 2] of int32 takes the place of the attention mask: for each segment of the row, in order, its
length and whether it is a response (1) or the prompt of the responses that follow it (0). transformers hands a mask of
four dimensions through to attention untouched, so that every architecture that calls its attention interface works.
On a CPU the segments are computed one by one; on a GPU the layout becomes the block mask of FlexAttention.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface
from transformers.integrations.flex_attention import flex_attention_forward

PACKED = "seralign_packed"
# Queries of one block: fewer waste less on keys that none of them sees, more fill the matrix products.
_BLOCK = 256
# Scores of one block, over all heads: what is held at once, however long the sequence is.
_SCORES = 4 * 2**20
# With more keys than this, the probabilities of a segment would outweigh the other activations of its tokens; the
# backward pass computes them again.
_KEEP = 1024
# What some architectures add to attention, and a packed row has no rules for.
_FOREIGN = ("s_aux", "sinks", "position_bias", "indices", "block_indices", "cache")

Segment = tuple[int, int, int, int]


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """Attention of one packed row, called by transformers.

    Args:
        module: The attention layer.
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D].
        attention_mask: A layout, or the block mask of one.
        options: ``scaling``, ``softcap``, ``sliding_window`` ...

    Returns:
        [1, T, H, D] and no weights.

    Raises:
        NotImplementedError: attention of a kind that packed rows have no rules for.
    """
    foreign = [name for name in _FOREIGN if options.get(name) is not None]
    if options.get("dropout"):
        raise NotImplementedError("packed rows know no dropout in attention; set the model's dropout to 0")
    if foreign or not getattr(module, "is_causal", True) or options.get("is_causal") is False:
        raise NotImplementedError(f"packed rows know no attention with {', '.join(foreign) or 'later tokens'}")
    window = options.get("sliding_window") or query.shape[2]
    q, k, v = (x.to(compute_dtype(x)) for x in (query, key, value))
    if isinstance(attention_mask, BlockMask):
        return flex_attention_forward(module, q, k, v, attention_mask, **options)[0], None
    segments = _segments(tuple(map(tuple, attention_mask[0, 0].tolist())))
    if any(prompt_end - prompt + end - start > window for prompt, prompt_end, start, end in segments):
        raise NotImplementedError(f"a sequence is longer than the attention's window of {window} tokens")
    scale = query.shape[-1] ** -0.5 if options.get("scaling") is None else options["scaling"]
    with torch.autocast(q.device.type, enabled=False):
        out_THD = _Segments.apply(q[0], k[0], v[0], segments, scale, options.get("softcap"))
    return out_THD[None], None


def is_layout(attention_mask: Tensor | None) -> bool:
    """Whether an attention mask is the layout of a packed row."""
    return attention_mask is not None and attention_mask.dtype == torch.int32 and attention_mask.dim() == 4


def block_mask(layout: Tensor, device: torch.device) -> BlockMask:
    """The layout as FlexAttention takes it."""
    lengths, is_response = layout[0, 0].to(device).unbind(1)
    segment = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
    group = torch.repeat_interleave((1 - is_response).cumsum(0), lengths)
    of_prompt = torch.repeat_interleave(is_response == 0, lengths)

    def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & (group[q] == group[k]) & ((segment[q] == segment[k]) | of_prompt[k])

    return create_block_mask(sees, None, None, len(segment), len(segment), device=device)  # pyright: ignore


def compute_dtype(x: Tensor) -> torch.dtype:
    """The data type that a matrix product of ``x`` is computed in: autocast's where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


AttentionInterface.register(PACKED, packed_attention)


@lru_cache(maxsize=64)
def _segments(layout: tuple[tuple[int, int], ...]) -> tuple[Segment, ...]:
    """(start and end of the prompt that it sees, its own start and end) of each segment; a prompt sees no other."""
    found, at, prompt = [], 0, (0, 0)
    for length, is_response in layout:
        found.append((*(prompt if is_response else (at, at)), at, at + length))
        if not is_response:
            prompt = (at, at + length)
        at += length
    return tuple(found)


class _Segments(torch.autograd.Function):
    """Causal attention of each segment to its prompt and itself, block by block, as matrix products.

    For segments of hundreds of tokens that is twice as fast on a CPU as torch's kernel, which is built for long ones.
    Query heads of one key head are rows of one product. Scores are rounded as in transformers' ``eager`` attention.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, segments: tuple[Segment, ...], scale: float, cap: float | None
    ):
        keeps = any(ctx.needs_input_grad[:3])
        out = q.new_empty(q.shape[1], q.shape[0], q.shape[2])
        kept: list[Tensor] = []
        for segment in segments:
            k_K, v_K = _seen(k, segment), _seen(v, segment)
            for first, last, keys in _blocks(segment, len(q)):
                p, slope = _probabilities(_fold(q, first, last, len(k)), k_K[:, :keys], last - first, scale, cap)
                out[first:last] = _unfold(torch.bmm(p, v_K[:, :keys]), last - first)
                if keeps and keys <= _KEEP:
                    kept += [p] if slope is None else [p, slope]
        ctx.save_for_backward(q, k, v, *kept)
        ctx.settings = segments, scale, cap
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, *kept = ctx.saved_tensors
        segments, scale, cap = ctx.settings
        left = iter(kept)
        grad_q = torch.empty_like(q)
        grad_k, grad_v = torch.zeros_like(k), torch.zeros_like(v)
        grad_out = grad_out.transpose(0, 1)
        for segment in segments:
            k_K, v_K = _seen(k, segment), _seen(v, segment)
            sum_k, sum_v = torch.zeros_like(k_K), torch.zeros_like(v_K)
            for first, last, keys in _blocks(segment, len(q)):
                q_B, go_B = _fold(q, first, last, len(k)), _fold(grad_out, first, last, len(k))
                if keys <= _KEEP:
                    p, slope = next(left), None if cap is None else next(left)
                else:
                    p, slope = _probabilities(q_B, k_K[:, :keys], last - first, scale, cap)
                sum_v[:, :keys] += torch.bmm(p.transpose(1, 2), go_B)
                grad_p = torch.bmm(go_B, v_K[:, :keys].transpose(1, 2))
                grad_s = torch.ops.aten._softmax_backward_data(grad_p, p, -1, p.dtype).mul_(scale)
                if slope is not None:
                    grad_s *= slope
                grad_q[:, first:last] = _unfold(torch.bmm(grad_s, k_K[:, :keys]), last - first).transpose(0, 1)
                sum_k[:, :keys] += torch.bmm(grad_s.transpose(1, 2), q_B)
            prompt, prompt_end, start, end = segment
            for whole, part in ((grad_k, sum_k), (grad_v, sum_v)):
                whole[:, prompt:prompt_end] += part[:, : prompt_end - prompt]
                whole[:, start:end] += part[:, prompt_end - prompt :]
        return grad_q, grad_k, grad_v, None, None, None


def _blocks(segment: Segment, heads: int) -> Iterator[tuple[int, int, int]]:
    """(first and last query, number of keys that the last one sees) of each block of a segment."""
    prompt, prompt_end, start, end = segment
    first = start
    while first < end:
        rows = max(16, min(_BLOCK, _SCORES // (heads * (prompt_end - prompt + end - start))))
        last = min(first + rows, end)
        yield first, last, prompt_end - prompt + last - start
        first = last


def _seen(x: Tensor, segment: Segment) -> Tensor:
    """[K, prompt and own tokens, D]."""
    prompt, prompt_end, start, end = segment
    own = x[:, start:end]
    return own if prompt == prompt_end else torch.cat([x[:, prompt:prompt_end], own], dim=1)


def _fold(x_HTD: Tensor, first: int, last: int, key_heads: int) -> Tensor:
    """[K, G * q, D]: the queries of all heads that share a key head."""
    return x_HTD[:, first:last].reshape(key_heads, -1, x_HTD.shape[-1])


def _unfold(x: Tensor, queries: int) -> Tensor:
    """[q, H, D] of [K, G * q, D]."""
    return x.reshape(-1, queries, x.shape[-1]).transpose(0, 1)


def _probabilities(q: Tensor, k: Tensor, queries: int, scale: float, cap: float | None) -> tuple[Tensor, Tensor | None]:
    """Attention weights [K, G * q, k], and the slope of the soft cap where there is one."""
    scores = torch.bmm(q, k.transpose(1, 2)).mul_(scale)
    slope = None
    if cap is not None:
        bent = torch.tanh(scores / cap)
        scores, slope = bent * cap, 1 - bent**2
    by_query = scores.view(-1, queries, scores.shape[-1])
    by_query[:, :, -queries:] += _future(queries, scores.dtype)
    return torch.softmax(scores, dim=-1), slope


@lru_cache(maxsize=512)
def _future(queries: int, dtype: torch.dtype) -> Tensor:
    """[q, q] minus infinity where a key is later than the query, else zero."""
    return torch.full((queries, queries), float("-inf"), dtype=dtype).triu(1)

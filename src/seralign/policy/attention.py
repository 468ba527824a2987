"""Attention for packed rows: each response attends to its prompt and to itself, without a mask of the row's size.

Legend: T tokens of a row, H query heads, K key heads, G = H / K, D head width; a *segment* is a prompt or a response;
q and k are the numbers of queries and keys of one block.

A *layout* [1, 1, S, 2] of int32 replaces the attention mask. It gives, for each segment of the row in order, its length
and whether it is a response (1) or the prompt of the responses that follow it (0). transformers passes a mask with
four dimensions to attention unchanged, so every architecture that uses its attention interface works. On a CPU the
segments are computed one by one; on a GPU the layout becomes a FlexAttention block mask.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from seralign.policy.precision import compute_dtype, wanted

PACKED = "seralign_packed"
# Queries of one block. Fewer waste less on keys that none of them sees; more make the matrix products efficient.
_BLOCK = 256
# Attention scores of one block over all heads. Limits the memory in use, however long the sequences are.
_SCORES = 4 * 2**20
# Scores of blocks that are computed together, few enough to stay in the processor's cache.
_TOGETHER = 2**19
# Scores that may be wasted on padding to add one more block to a group. Launching separate kernels for it costs as
# much.
_WASTE = 2**17
# With more keys than this, the probabilities of a segment would take more memory than its other activations, so the
# backward pass computes them again.
_KEEP = 1024
# Additions of some architectures to attention that packed rows do not support.
_FOREIGN = ("s_aux", "sinks", "position_bias", "indices", "block_indices", "cache")

Layout = tuple[tuple[int, int], ...]


class Block(NamedTuple):
    """Queries ``first`` to ``last`` of a segment that begins at ``start``; they see the prompt and their segment."""

    prompt: int
    prompt_end: int
    start: int
    first: int
    last: int

    @property
    def queries(self) -> int:
        return self.last - self.first

    @property
    def keys(self) -> int:
        return self.prompt_end - self.prompt + self.last - self.start


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """Compute attention for one packed row; transformers calls this. Other rows get transformers' ``sdpa``.

    Args:
        module: The attention layer.
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D].
        attention_mask: A layout, or the block mask of one; anything else is not a packed row.
        options: ``scaling``, ``softcap``, ``sliding_window`` ...

    Returns:
        [1, T, H, D] and no weights.

    Raises:
        NotImplementedError: this kind of attention is not supported in packed rows.
    """
    if not isinstance(attention_mask, BlockMask) and not is_layout(attention_mask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    if options.get("dropout"):
        raise NotImplementedError("packed rows do not support dropout in attention; set the model's dropout to 0")
    foreign = [name for name in _FOREIGN if options.get(name) is not None]
    if foreign or not getattr(module, "is_causal", True) or options.get("is_causal") is False:
        raise NotImplementedError(f"packed rows do not support attention with {', '.join(foreign) or 'later tokens'}")
    q, k, v = (x.to(compute_dtype(x)) for x in (query, key, value))
    if isinstance(attention_mask, BlockMask):
        return flex_attention_forward(module, q, k, v, attention_mask, **options)[0], None
    layout = tuple(map(tuple, attention_mask[0, 0].tolist()))
    window = options.get("sliding_window")
    if window is not None and any(block.keys > window for block in _blocks(layout, query.shape[1])):
        raise NotImplementedError(f"a sequence is longer than the attention's window of {window} tokens")
    scale = query.shape[-1] ** -0.5 if options.get("scaling") is None else options["scaling"]
    with torch.autocast(q.device.type, enabled=False):
        out_HTD = _Segments.apply(*wanted(q[0], k[0], v[0]), layout, scale, options.get("softcap"))
    return out_HTD.transpose(0, 1)[None], None


def is_layout(attention_mask: Tensor | None) -> bool:
    """Whether an attention mask is the layout of a packed row."""
    return attention_mask is not None and attention_mask.dtype == torch.int32 and attention_mask.dim() == 4


def block_mask(layout: Tensor, device: torch.device) -> BlockMask:
    """The layout as a block mask for FlexAttention."""
    lengths, is_response = layout[0, 0].to(device).unbind(1)
    segment = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
    group = torch.repeat_interleave((1 - is_response).cumsum(0), lengths)
    of_prompt = torch.repeat_interleave(is_response == 0, lengths)

    def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & (group[q] == group[k]) & ((segment[q] == segment[k]) | of_prompt[k])

    return create_block_mask(sees, None, None, len(segment), len(segment), device=device)  # pyright: ignore


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)


class _Segments(torch.autograd.Function):
    """Causal attention of each segment to its prompt and itself, as matrix products over blocks of similar size.

    For segments of hundreds of tokens this is twice as fast on a CPU as torch's kernel, which is made for long ones.
    The query heads that share a key head are rows of one product. Scores are rounded as in transformers' ``eager``
    attention.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, cap: float | None) -> Tensor:
        keeps = any(ctx.needs_input_grad[:3])
        q, k, v = _with_padding(q, scale), _with_padding(k), _with_padding(v)
        out = torch.empty_like(q)
        kept: list[Tensor] = []
        for bucket in _buckets(layout, len(q)):
            p, slope = _probabilities(bucket, q, k, cap)
            found = torch.bmm(p, _keys(v, bucket))
            _put(out, bucket, found)
            if keeps and bucket.keys.shape[1] <= _KEEP:
                kept += [p] if slope is None else [p, slope]
        ctx.save_for_backward(q, k, v, *kept)
        ctx.settings = layout, scale, cap
        return out[:, :-1]

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, *kept = ctx.saved_tensors
        layout, scale, cap = ctx.settings
        left, heads = iter(kept), len(k)
        grad_out = _with_padding(grad_out)
        grad_q = torch.empty_like(q)
        # A prompt's gradient is a sum over many blocks; in bfloat16 every addition would round.
        grad_k, grad_v = (torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32)) for x in (k, v))
        for bucket in _buckets(layout, len(q)):
            if bucket.keys.shape[1] <= _KEEP:
                p, slope = next(left), None if cap is None else next(left)
            else:
                p, slope = _probabilities(bucket, q, k, cap)
            go_B = _queries(grad_out, bucket, heads)
            grad_p = torch.bmm(go_B, _keys(v, bucket).transpose(1, 2))
            grad_s = torch.ops.aten._softmax_backward_data(grad_p, p, -1, p.dtype)
            if slope is not None:
                grad_s *= slope
            found = torch.bmm(grad_s, _keys(k, bucket))
            _put(grad_q, bucket, found)
            own_k = torch.bmm(grad_s.transpose(1, 2), _queries(q, bucket, heads))
            own_v = torch.bmm(p.transpose(1, 2), go_B)
            for whole, part in ((grad_k, own_k), (grad_v, own_v)):
                by_block = part.view(heads, len(bucket.blocks), -1, part.shape[-1])
                for number, block in enumerate(bucket.blocks):
                    shared = block.prompt_end - block.prompt
                    if shared:
                        whole[:, block.prompt : block.prompt_end] += by_block[:, number, :shared]
                    whole[:, block.start : block.last] += by_block[:, number, shared : block.keys]
        grad_k, grad_v = (grad[:, :-1].to(k.dtype) for grad in (grad_k, grad_v))
        return grad_q[:, :-1].mul_(scale), grad_k, grad_v, None, None, None


class _Bucket(NamedTuple):
    """B blocks that are computed together.

    ``queries`` [B, q] and ``keys`` [B, k] are places in the row, padded with the place after its end. ``hidden``
    [B, q, rest] marks the keys that a query does not see. The first ``clear`` keys are seen by all queries, so
    ``hidden`` leaves them out.
    """

    blocks: list[Block]
    queries: Tensor
    keys: Tensor
    hidden: Tensor
    clear: int


@lru_cache(maxsize=2)
def _blocks(layout: Layout, heads: int) -> tuple[Block, ...]:
    """The blocks of all segments; a prompt attends only to itself."""
    found, at, prompt = [], 0, (0, 0)
    for length, is_response in layout:
        start, end = at, at + length
        seen = prompt if is_response else (start, start)
        rows = max(16, min(_BLOCK, _SCORES // (heads * max(1, seen[1] - seen[0] + length))))
        found += [Block(*seen, start, first, min(first + rows, end)) for first in range(start, end, rows)]
        prompt, at = prompt if is_response else (start, end), end
    return tuple(found)


@lru_cache(maxsize=2)
def _buckets(layout: Layout, heads: int) -> list[_Bucket]:
    """Groups of blocks of similar size, largest first."""
    end = sum(length for length, _ in layout)
    groups: list[list[Block]] = []
    queries = scores = 0
    for block in sorted(_blocks(layout, heads), key=lambda block: (-block.keys, -block.queries)):
        if groups:
            wider = max(queries, block.queries)
            together = (len(groups[-1]) + 1) * wider * groups[-1][0].keys * heads
            scores += block.queries * block.keys * heads
            if together <= _TOGETHER and together - scores <= _WASTE:
                groups[-1].append(block)
                queries = wider
                continue
        groups.append([block])
        queries, scores = block.queries, block.queries * block.keys * heads
    return [_bucket(blocks, end) for blocks in groups]


def _bucket(blocks: list[Block], end: int) -> _Bucket:
    prompt, prompt_end, start, first, last = torch.tensor(blocks)[:, None].unbind(2)
    shared, queries_B1, keys_B1 = prompt_end - prompt, last - first, prompt_end - prompt + last - start
    at_q, at_k = torch.arange(int(queries_B1.max())), torch.arange(int(keys_B1.max()))
    queries = torch.where(at_q < queries_B1, first + at_q, end)
    keys = torch.where(at_k < shared, prompt + at_k, start + at_k - shared).where(at_k < keys_B1, end)
    clear = int((keys_B1 - queries_B1).min())
    last_seen = keys_B1 - queries_B1 + at_q
    # Padding queries see all keys, because a softmax over none is NaN.
    hidden = (at_k[clear:] > last_seen[..., None]) & (at_q < queries_B1)[..., None]
    return _Bucket(blocks, queries, keys, hidden, clear)


def _probabilities(bucket: _Bucket, q: Tensor, k: Tensor, cap: float | None) -> tuple[Tensor, Tensor | None]:
    """Attention weights [K * B, G * q, k] of scaled queries, and the derivative of the soft cap if there is one."""
    scores = torch.bmm(_queries(q, bucket, len(k)), _keys(k, bucket).transpose(1, 2))
    slope = None
    if cap is not None:
        bent = torch.tanh(scores / cap)
        scores, slope = bent * cap, 1 - bent**2
    size, width = bucket.queries.shape
    by_block = scores.view(len(k), size, -1, width, scores.shape[-1])[..., bucket.clear :]
    by_block.masked_fill_(bucket.hidden[:, None], float("-inf"))
    return torch.softmax(scores, dim=-1), slope


def _with_padding(x_HTD: Tensor, scale: float = 1.0) -> Tensor:
    """[H, T + 1, D], with zeros in the last place."""
    heads, length, width = x_HTD.shape
    padded = x_HTD.new_empty(heads, length + 1, width)
    torch.mul(x_HTD, scale, out=padded[:, :-1])
    padded[:, -1] = 0
    return padded


def _queries(x: Tensor, bucket: _Bucket, key_heads: int) -> Tensor:
    """[K * B, G * q, D] from [H, T + 1, D]; the queries of all heads that share a key head are together."""
    width = x.shape[-1]
    if len(bucket.blocks) == 1:
        (block,) = bucket.blocks
        return x[:, block.first : block.last].reshape(key_heads, -1, width)
    found = x[:, bucket.queries.flatten()].view(key_heads, -1, *bucket.queries.shape, width)
    return found.transpose(1, 2).reshape(key_heads * len(bucket.blocks), -1, width)


def _keys(x: Tensor, bucket: _Bucket) -> Tensor:
    """[K * B, k, D] from [K, T + 1, D]."""
    if len(bucket.blocks) == 1:
        (block,) = bucket.blocks
        own = x[:, block.start : block.last]
        return (
            torch.cat([x[:, block.prompt : block.prompt_end], own], dim=1) if block.prompt_end > block.prompt else own
        )
    return x[:, bucket.keys.flatten()].view(-1, bucket.keys.shape[1], x.shape[-1])


def _put(x: Tensor, bucket: _Bucket, found: Tensor) -> None:
    """Write [K * B, G * q, D] to the places of the queries in [H, T + 1, D]."""
    width = x.shape[-1]
    if len(bucket.blocks) == 1:
        (block,) = bucket.blocks
        x[:, block.first : block.last] = found.view(len(x), -1, width)
    else:
        size, queries = bucket.queries.shape
        by_block = found.view(len(found) // size, size, -1, queries, width)
        x[:, bucket.queries.flatten()] = by_block.transpose(1, 2).reshape(len(x), size * queries, width)

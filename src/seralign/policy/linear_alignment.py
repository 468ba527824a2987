"""Sampling with Linear Alignment (2401.11458): two distributions of the same policy, with and without a principle.

Legend: P prompts, R rows (responses being sampled), N new tokens, T all tokens of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from seralign.policy.decoding import Draw, Forward, decode_rows, model_forward, prefilled, rows_together
from seralign.policy.draws import nucleus
from seralign.policy.growing_cache import selected
from seralign.policy.precision import exact_dtype


def aligned_logits(with_RV: Tensor, without_RV: Tensor, step: float, temperature: float, top_p: float) -> Tensor:
    """The logits of Linear Alignment, in one step: z + step (z - z0), for the likely tokens alone.

    z are the logits with the principle and z0 those without it. The difference estimates the direction in which the
    principle moves the distribution. Only tokens in the nucleus of the distribution with the principle stay, because
    the difference of two unlikely tokens is mostly noise; so nothing else is cut from the result. This is what the
    authors' published code computes.

    For example, z = (2, 1, 0), z0 = (2, 2, 0), a step of 2 and all tokens give (2, -1, 0).

    Args:
        with_RV: [R, V] logits with the principle.
        without_RV: [R, V] logits without it.
        step: Size of the step.
        temperature: Of the distribution whose nucleus is taken; at 0 that of temperature 1.
        top_p: Mass of the nucleus.

    Returns:
        [R, V] in float32 or above, minus infinity for tokens that are left out.
    """
    dtype = torch.promote_types(with_RV.dtype, torch.float32)
    with_RV, without_RV = with_RV.to(dtype), without_RV.to(dtype)
    likely_RV = (with_RV / (temperature or 1.0)).softmax(dim=1)
    if top_p < 1.0:
        likely_RV = nucleus(likely_RV, top_p)
    return (with_RV + step * (with_RV - without_RV)).where(likely_RV > 0, -torch.inf)


@torch.no_grad()
def decode_aligned(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    without: Sequence[Sequence[int]],
    uniform_RN: Tensor,
    combine: Callable[[Tensor, Tensor], Tensor],
    draw: Draw,
    end_tokens: frozenset[int],
) -> Tensor:
    """``decoding.decode`` where the same response continues two prompts, and is drawn from logits that combine both.

    Args:
        model: A causal language model for which ``decoding.why_not_shared`` is None, in evaluation mode.
        prompts: Token ids of P prompts with the principle.
        without: Token ids of the same prompts without it.
        uniform_RN: [R, N] numbers in [0, 1) on the CPU. R is a multiple of P; the rows of a prompt are adjacent.
        combine: Turns the logits [R, V] with and without the principle into those that are drawn from.
        draw: Turns the combined logits and uniform numbers into tokens.
        end_tokens: Ids that end a response.

    Returns:
        [R, N] ids on the CPU, as ``decoding.decode``.
    """
    device = next(model.parameters()).device
    forward = model_forward(model)
    one, other = (prefilled(forward, model, ids, device) for ids in (prompts, without))
    ends = torch.tensor(sorted(end_tokens), dtype=torch.long, device=device)
    rows, length = uniform_RN.shape
    numbers_RN = uniform_RN.to(device, exact_dtype(device))
    prompt_R = torch.arange(len(prompts), device=device).repeat_interleave(rows // len(prompts))
    width = one.mask_PW.shape[1] + other.mask_PW.shape[1]
    together = rows_together(one.cache, width + 2 * length, device)

    def both(twin: _Twin, ids_RT: Tensor, mask: Tensor | None, positions_RT: Tensor) -> Tensor:
        with_RV = forward(twin.cache, ids_RT, mask, positions_RT)
        return combine(with_RV, twin.continued(forward, ids_RT))

    sampled = []
    for start in range(0, rows, together):
        own_R = prompt_R[start : start + together]
        mask_RW = other.mask_PW[own_R]
        twin = _Twin(
            selected(one.cache, own_R),
            selected(other.cache, own_R),
            torch.cat([mask_RW, mask_RW.new_ones(len(own_R), length)], dim=1),
            mask_RW.shape[1],
            mask_RW.sum(dim=1),
        )
        logits_RV = combine(one.logits_PV[own_R], other.logits_PV[own_R])
        numbers = numbers_RN[start : start + together]
        sampled.append(decode_rows(both, twin, logits_RV, one.mask_PW[own_R], numbers, draw, ends).cpu())
    return torch.cat(sampled)


@dataclass
class _Twin:
    """The caches of the same rows with and without the principle. ``mask_RT`` and the rest are of the one without."""

    cache: DynamicCache
    other: DynamicCache
    mask_RT: Tensor
    width: int
    position_R: Tensor

    def batch_select_indices(self, rows: Tensor) -> None:
        """Keep some rows, as a cache does."""
        self.cache.batch_select_indices(rows)
        self.other.batch_select_indices(rows)
        self.mask_RT, self.position_R = self.mask_RT[rows], self.position_R[rows]

    def continued(self, forward: Forward[DynamicCache], ids_RT: Tensor) -> Tensor:
        """The logits [R, V] without the principle after one more token [R, 1]."""
        self.width += 1
        seen_RT = self.mask_RT[:, : self.width]
        logits_RV = forward(self.other, ids_RT, None if bool(seen_RT.all()) else seen_RT, self.position_R[:, None])
        self.position_R = self.position_R + 1
        return logits_RV

"""Drawing tokens from logits with one uniform number a token, independent of what else is sampled.

Legend: R rows, V vocabulary, C blocks of the vocabulary, N new tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seralign.policy.precision import exact_dtype

_BLOCK = 128
_FIRST_LOOK = 256


def uniforms(seed: int, prompt_ids: Sequence[str], samples: int, length: int) -> Tensor:
    """The random numbers of ``samples`` responses to each prompt, one a token, on the CPU.

    A response's numbers depend only on the seed, its prompt's id and its index. A shorter ``length`` gives a prefix of
    the same numbers.

    Returns:
        [len(prompt_ids) * samples, length] float64 in [0, 1); the responses to a prompt are adjacent.
    """
    table = np.empty((len(prompt_ids), samples, length))
    for row, prompt_id in enumerate(prompt_ids):
        number = _number(prompt_id)
        for index in range(samples):
            table[row, index] = np.random.default_rng([seed, number, index]).random(length)
    return torch.from_numpy(table).flatten(0, 1)


def draw(logits_RV: Tensor, uniform_R: Tensor, temperature: float, top_p: float) -> Tensor:
    """Draw one token a row by inverting its cumulative distribution.

    Tokens are in the order of their ids. Probabilities are float32. They are summed in blocks of the vocabulary, and
    the sums of the blocks in float64. This keeps the relative error of each token's probability near 1e-7 for any
    vocabulary. A float32 cumulative sum has an absolute error of that size, more than the probability of a rare token.
    A token of probability 0 is never drawn.

    Args:
        logits_RV: [R, V] in any floating-point type.
        uniform_R: [R] numbers in [0, 1).
        temperature: Divides the logits. 0 takes the most probable token, whatever ``uniform_R`` is.
        top_p: Mass of the nucleus (Holtzman et al., 1904.09751): the smallest set of most probable tokens that holds
            it. 1 keeps all tokens.

    Returns:
        [R] token ids; -1 where the logits are NaN or infinite.
    """
    if temperature == 0.0:
        best_R, token_R = logits_RV.max(dim=1)
        return token_R.where(best_R.isfinite(), -1)
    probabilities_RV = (logits_RV.float() / temperature).softmax(dim=1)
    if top_p < 1.0:
        probabilities_RV = nucleus(probabilities_RV, top_p)
    exact = exact_dtype(logits_RV.device)
    rows, size = probabilities_RV.shape
    blocks_RCB = F.pad(probabilities_RV, (0, -size % _BLOCK)).view(rows, -1, _BLOCK)
    sums_RC = blocks_RCB.sum(dim=2).to(exact)
    upto_RC = sums_RC.cumsum(dim=1)
    total_R1 = upto_RC[:, -1:]
    target_R1 = uniform_R[:, None].to(exact) * total_R1
    block_R1 = _first_above(upto_RC, target_R1)
    within_R1 = target_R1 - (upto_RC - sums_RC).gather(1, block_R1)
    inside_RB = blocks_RCB[torch.arange(rows, device=block_R1.device), block_R1[:, 0]].to(exact).cumsum(dim=1)
    token_R1 = block_R1 * _BLOCK + _first_above(inside_RB, within_R1.clamp(min=0))
    return token_R1.where(total_R1 > 0, -1)[:, 0]


def nucleus(probabilities_RV: Tensor, top_p: float) -> Tensor:
    """Probabilities [R, V] with those outside the nucleus set to 0; not normalised.

    Keeps the same tokens as transformers' ``TopPLogitsWarper``. On a CPU, where sorting the vocabulary costs more than
    a small model's forward pass, only the most probable tokens are sorted where they are enough.
    """
    size = probabilities_RV.shape[1]
    exact = exact_dtype(probabilities_RV.device)
    look = min(size, _FIRST_LOOK) if probabilities_RV.device.type == "cpu" else size
    top_RK, token_RK = probabilities_RV.topk(look, dim=1)
    if look < size and bool((top_RK.sum(dim=1, dtype=exact) < top_p).any()):
        top_RK, token_RK = probabilities_RV.sort(dim=1, descending=True)
    before_RK = top_RK.cumsum(dim=1, dtype=exact) - top_RK
    return torch.zeros_like(probabilities_RV).scatter_(1, token_RK, top_RK.where(before_RK < top_p, 0.0))


def _number(prompt_id: str) -> int:
    return int.from_bytes(hashlib.sha256(prompt_id.encode()).digest()[:16], "big")


def _first_above(upto_RK: Tensor, target_R1: Tensor) -> Tensor:
    # Rounding can lift a target to the total, and nothing is above that. The last token with a probability is meant.
    below_total_R1 = torch.nextafter(upto_RK[:, -1:], torch.zeros_like(target_R1))
    place_R1 = torch.searchsorted(upto_RK, torch.minimum(target_R1, below_total_R1), right=True)
    return place_R1.clamp(max=upto_RK.shape[1] - 1)

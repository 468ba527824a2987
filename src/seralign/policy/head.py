"""Log-probabilities of target tokens from hidden states, never with the logits of all tokens at once.

Legend: N tokens, C tokens of a chunk, W width of the hidden states, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seralign.policy.attention import compute_dtype

# Logits of a chunk, in elements: enough to fill the matrix products, little beside a model. The softmax takes a slice
# of them: on a CPU one that stays in its cache and that memory is at hand for without asking the system.
_CHUNK = {"cpu": 8 * 2**20, "cuda": 64 * 2**20}
_SLICE = {"cpu": 2**20, "cuda": 64 * 2**20}


def linear_logps(layer: nn.Linear, hidden: Tensor, targets: Tensor, cap: float | None = None) -> Tensor:
    """Log-probability of each target token under a linear output layer, differentiable.

    The softmax is float32. Forward and backward hold the logits of one chunk of tokens, whatever N and V are.

    Args:
        layer: The output layer, [V, W] and perhaps a bias.
        hidden: [N, W] last hidden states.
        targets: [N] token ids.
        cap: Soft cap of the logits, ``cap * tanh(logits / cap)``.

    Returns:
        [N] float32, in nats.
    """
    return _LinearLogps.apply(hidden, layer.weight, layer.bias, targets, cap, compute_dtype(hidden))


def module_logps(
    forward: Callable[[Tensor], Tensor], vocabulary: int, hidden: Tensor, targets: Tensor, cap: float | None = None
) -> Tensor:
    """As :func:`linear_logps`, for an output layer of any kind (an adapter on it, quantised weights): ``forward`` maps
    [C, W] to [C, V], and is called again in the backward pass."""
    rows = _rows(_CHUNK, hidden, vocabulary)

    def logps(hidden: Tensor, targets: Tensor) -> Tensor:
        logits = _capped(forward(hidden).float(), cap)
        return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=1)

    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.cat([checkpoint(logps, *part, use_reentrant=False) for part in parts])  # pyright: ignore


class _LinearLogps(torch.autograd.Function):
    """Recomputes a chunk's logits in the backward pass and turns them in place into their gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None, dtype: Any
    ) -> Tensor:
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.settings = cap, dtype
        logps = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for start, logits in _logits(hidden, weight, bias, dtype):
                for at, part in _slices(logits):
                    rows = slice(start + at, start + at + len(part))
                    found = torch.log_softmax(_capped(part.float(), cap), dim=1)
                    logps[rows] = found.gather(1, targets[rows, None])[:, 0]
        return logps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, weight, bias, targets = ctx.saved_tensors
        cap, dtype = ctx.settings
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if wants_bias else None
        with torch.autocast(hidden.device.type, enabled=False):
            low = weight.to(dtype)
            for start, logits in _logits(hidden, low, bias, dtype):
                for at, part in _slices(logits):
                    rows = slice(start + at, start + at + len(part))
                    capped = _capped(part.float(), cap)
                    slope = None if cap is None else 1 - (capped / cap) ** 2
                    change = torch.softmax(capped, dim=1).mul_(-grad[rows, None])
                    change.scatter_add_(1, targets[rows, None], grad[rows, None])
                    part.copy_(change if slope is None else change.mul_(slope))
                chunk = slice(start, start + len(logits))
                if grad_hidden is not None:
                    grad_hidden[chunk] = logits @ low
                if grad_weight is not None:
                    grad_weight += logits.t() @ hidden[chunk].to(dtype)
                if grad_bias is not None:
                    grad_bias += logits.float().sum(dim=0)
        like_weight = None if grad_weight is None else grad_weight.to(weight.dtype)
        return grad_hidden, like_weight, None if grad_bias is None else grad_bias.to(bias.dtype), None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """(first token, logits [C, V]) of each chunk; a chunk is overwritten by the next."""
    low, offset = weight.to(dtype), None if bias is None else bias.to(dtype)
    rows = max(1, min(len(hidden), _rows(_CHUNK, hidden, len(weight))))
    place = torch.empty(rows, len(weight), dtype=dtype, device=hidden.device)
    for start in range(0, len(hidden), rows):
        part = hidden[start : start + rows].to(dtype)
        logits = place[: len(part)]
        if offset is None:
            torch.mm(part, low.t(), out=logits)
        else:
            torch.addmm(offset, part, low.t(), out=logits)
        yield start, logits


def _slices(logits: Tensor) -> Iterator[tuple[int, Tensor]]:
    rows = _rows(_SLICE, logits, logits.shape[1])
    yield from ((at, logits[at : at + rows]) for at in range(0, len(logits), rows))


def _rows(elements: dict[str, int], like: Tensor, vocabulary: int) -> int:
    return max(1, elements.get(like.device.type, elements["cuda"]) // vocabulary)


def _capped(logits: Tensor, cap: float | None) -> Tensor:
    return logits if cap is None else torch.tanh(logits / cap) * cap

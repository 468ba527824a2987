"""Log-probabilities of target tokens from hidden states, never with the logits of all tokens at once.

Legend: N tokens, C tokens of a chunk, W width of the hidden states, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seralign.policy.precision import compute_dtype

# Logits of a chunk, in elements: enough to fill the matrix products, little beside a model. The softmax takes a slice
# of them: on a CPU one that stays in its cache and that memory is at hand for without asking the system.
_CHUNK = {"cpu": 8 * 2**20, "cuda": 64 * 2**20}
_SLICE = {"cpu": 2**20, "cuda": 64 * 2**20}
# Logits of so many elements are kept for the backward pass, which computes those of the other tokens again: a fixed
# amount of memory, whatever N and V are, for a quarter of the layer's work on so many tokens.
_KEPT = {"cpu": 32 * 2**20, "cuda": 256 * 2**20}


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
    rows = _chunk_rows(hidden, vocabulary)

    def logps(hidden: Tensor, targets: Tensor) -> Tensor:
        logits = _capped(forward(hidden).float(), cap)
        return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=1)

    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.cat([checkpoint(logps, *part, use_reentrant=False) for part in parts])  # pyright: ignore


class _LinearLogps(torch.autograd.Function):
    """The backward pass turns a chunk's logits in place into their gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None, dtype: Any
    ) -> Tensor:
        layer = _Layer(weight, bias, dtype)
        logps = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        kept: list[Tensor] = []
        room = _size(_KEPT, hidden) if any(ctx.needs_input_grad) else 0
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in _chunks(hidden, weight):
                keeps = room >= len(weight) * (rows.stop - rows.start)
                logits = layer.logits(hidden[rows], again=not keeps)
                # What is kept has to be the first chunks: the backward pass tells by their number.
                room = room - logits.numel() if keeps else 0
                if keeps:
                    kept.append(logits)
                for at, part in _slices(logits, rows.start):
                    found = torch.log_softmax(_capped(part.float(), cap), dim=1)
                    logps[at] = found.gather(1, targets[at, None])[:, 0]
        ctx.save_for_backward(hidden, weight, bias, targets, *kept)
        ctx.settings = cap, dtype
        return logps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, weight, bias, targets, *kept = ctx.saved_tensors
        cap, dtype = ctx.settings
        layer = _Layer(weight, bias, dtype)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if wants_bias else None
        with torch.autocast(hidden.device.type, enabled=False):
            for number, rows in enumerate(_chunks(hidden, weight)):
                logits = kept[number] if number < len(kept) else layer.logits(hidden[rows], again=True)
                for at, part in _slices(logits, rows.start):
                    capped = _capped(part.float(), cap)
                    slope = None if cap is None else 1 - (capped / cap) ** 2
                    change = torch.softmax(capped, dim=1).mul_(-grad[at, None])
                    change.scatter_add_(1, targets[at, None], grad[at, None])
                    part.copy_(change if slope is None else change.mul_(slope))
                if grad_hidden is not None:
                    grad_hidden[rows] = logits @ layer.weight
                if grad_weight is not None:
                    grad_weight += logits.t() @ hidden[rows].to(dtype)
                if grad_bias is not None:
                    grad_bias += logits.float().sum(dim=0)
        like_weight = None if grad_weight is None else grad_weight.to(weight.dtype)
        like_bias = None if grad_bias is None else grad_bias.to(bias.dtype)
        return grad_hidden, like_weight, like_bias, None, None, None


class _Layer:
    """The layer in the data type of its products."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight = weight.to(dtype)
        self._bias = None if bias is None else bias.to(dtype)
        self._place: Tensor | None = None

    def logits(self, hidden: Tensor, *, again: bool) -> Tensor:
        """Logits [C, V]; with ``again`` in one place, where the next call overwrites them."""
        hidden = hidden.to(self.weight.dtype)
        if again and self._place is None:
            self._place = hidden.new_empty(len(hidden), len(self.weight))
        out = self._place[: len(hidden)] if again and self._place is not None else None
        if self._bias is None:
            return torch.mm(hidden, self.weight.t(), out=out)
        return torch.addmm(self._bias, hidden, self.weight.t(), out=out)


def _chunks(hidden: Tensor, weight: Tensor) -> Iterator[slice]:
    """The tokens of each chunk, the first the largest."""
    rows = _chunk_rows(hidden, len(weight))
    yield from (slice(start, min(start + rows, len(hidden))) for start in range(0, len(hidden), rows))


def _slices(logits: Tensor, first: int) -> Iterator[tuple[slice, Tensor]]:
    """(tokens, logits) of each slice of a chunk that begins with token ``first``."""
    rows = _rows(_SLICE, logits, logits.shape[1])
    for at in range(0, len(logits), rows):
        part = logits[at : at + rows]
        yield slice(first + at, first + at + len(part)), part


def _chunk_rows(hidden: Tensor, vocabulary: int) -> int:
    # In a vocabulary so large that few tokens fill a chunk, each chunk would add a gradient as large as the layer for
    # little work; logits no larger than the layer itself do not matter beside it.
    return max(_rows(_CHUNK, hidden, vocabulary), min(256, hidden.shape[-1]))


def _rows(elements: dict[str, int], like: Tensor, vocabulary: int) -> int:
    return max(1, _size(elements, like) // vocabulary)


def _size(elements: dict[str, int], like: Tensor) -> int:
    return elements["cpu" if like.device.type == "cpu" else "cuda"]


def _capped(logits: Tensor, cap: float | None) -> Tensor:
    return logits if cap is None else torch.tanh(logits / cap) * cap

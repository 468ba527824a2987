"""Log-probabilities of target tokens from hidden states, without ever holding the logits of all tokens.

Legend: N tokens, C tokens of a chunk, W width of the hidden states, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seralign.policy.precision import compute_dtype, wanted

# Logits of a chunk, in elements: enough for efficient matrix products, and little memory compared with a model. The
# softmax works on a slice of them, which on a CPU stays in its cache.
_CHUNK = {"cpu": 8 * 2**20, "cuda": 64 * 2**20}
_SLICE = {"cpu": 2**20, "cuda": 64 * 2**20}
# Derivatives of this many elements are kept for the backward pass; those of other tokens are computed again. This
# takes a fixed amount of memory, whatever N and V, and saves a quarter of the layer's work on the tokens that are kept.
_KEPT = {"cpu": 32 * 2**20, "cuda": 256 * 2**20}


def linear_logps(layer: nn.Linear, hidden: Tensor, targets: Tensor, cap: float | None = None) -> Tensor:
    """Log-probability of each target token under a linear output layer; differentiable.

    The softmax is computed in float32. Forward and backward hold the logits of one chunk of tokens at a time.

    Args:
        layer: The output layer, [V, W], with or without a bias.
        hidden: [N, W] last hidden states.
        targets: [N] token ids.
        cap: Soft cap of the logits, ``cap * tanh(logits / cap)``.

    Returns:
        [N] float32, in nats.
    """
    hidden, weight, bias = wanted(hidden, layer.weight, layer.bias)
    return _LinearLogps.apply(hidden, weight, bias, targets, cap, compute_dtype(hidden))


def module_logps(
    forward: Callable[[Tensor], Tensor], vocabulary: int, hidden: Tensor, targets: Tensor, cap: float | None = None
) -> Tensor:
    """``linear_logps`` for any output layer, such as one with an adapter or quantized weights.

    ``forward`` maps [C, W] to [C, V] and is called again in the backward pass.
    """
    rows = _chunk_rows(hidden, vocabulary)

    def logps(hidden: Tensor, targets: Tensor) -> Tensor:
        logits = _capped(forward(hidden).float(), cap)
        return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=1)

    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.cat([checkpoint(logps, *part, use_reentrant=False) for part in parts])  # pyright: ignore


def log_collisions(
    forward: Callable[[Tensor], Tensor], vocabulary: int, hidden: Tensor, cap: float | None = None
) -> Tensor:
    """log sum over v of p(v)^2, of the distribution that predicts each token: two draws from it are equal so often.

    Arguments are those of ``module_logps``. There is no gradient.

    Returns:
        [N] float32.
    """
    with torch.no_grad():
        parts = hidden.split(_chunk_rows(hidden, vocabulary))
        return torch.cat([log_collisions_of(_capped(forward(part).float(), cap)) for part in parts])


def log_collisions_of(logits: Tensor) -> Tensor:
    """log sum over v of p(v)^2 [N] from logits [N, V]."""
    return (2 * logits).logsumexp(dim=1) - 2 * logits.logsumexp(dim=1)


class _LinearLogps(torch.autograd.Function):
    """Turns the logits of a chunk in place into their derivatives: softmax minus one at the target.

    A token's gradient is one row of these times a factor, so it is applied to hidden states without an [N, V] tensor.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None, dtype: Any
    ) -> Tensor:
        layer = _Layer(weight.to(dtype), None if bias is None else bias.to(dtype))
        logps = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        chunks = _chunks(hidden, weight)
        ctx.kept = len(chunks) if any(ctx.needs_input_grad) else 0
        ctx.kept = min(ctx.kept, _size(_KEPT, hidden) // (len(weight) * (chunks[0].stop if chunks else 1)))
        slopes = layer.weight.new_empty(chunks[ctx.kept - 1].stop if ctx.kept else 0, len(weight))
        with torch.autocast(hidden.device.type, enabled=False):
            for number, rows in enumerate(chunks):
                keeps = number < ctx.kept
                logits = layer.logits(hidden[rows], slopes[rows] if keeps else None)
                for at, part in _slices(logits, rows.start):
                    found = torch.log_softmax(_capped(part.float(), cap), dim=1)
                    logps[at] = found.gather(1, targets[at, None])[:, 0]
                    if keeps:
                        _to_slopes(part, found.exp_(), targets[at], cap)
        ctx.save_for_backward(hidden, weight, bias, targets, layer.weight, layer.bias, slopes)
        ctx.cap = cap
        return logps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, weight, bias, targets, own_weight, own_bias, slopes = ctx.saved_tensors
        layer = _Layer(own_weight, own_bias)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if wants_bias else None

        def add(rows: slice, slopes: Tensor) -> None:
            factor = -grad[rows, None]
            if grad_hidden is not None:
                grad_hidden[rows] = (slopes @ layer.weight) * factor
            if grad_weight is not None:
                grad_weight.add_(slopes.t() @ (hidden[rows] * factor).to(slopes.dtype))
            if grad_bias is not None:
                grad_bias.add_((slopes.t() @ factor.to(slopes.dtype))[:, 0])

        with torch.autocast(hidden.device.type, enabled=False):
            if len(slopes):
                add(slice(0, len(slopes)), slopes)
            for rows in _chunks(hidden, weight)[ctx.kept :]:
                logits = layer.logits(hidden[rows])
                for at, part in _slices(logits, rows.start):
                    _to_slopes(part, torch.softmax(_capped(part.float(), ctx.cap), dim=1), targets[at], ctx.cap)
                add(rows, logits)
        like_weight = None if grad_weight is None else grad_weight.to(weight.dtype)
        like_bias = None if grad_bias is None else grad_bias.to(bias.dtype)
        return grad_hidden, like_weight, like_bias, None, None, None


def _to_slopes(logits: Tensor, probabilities: Tensor, targets: Tensor, cap: float | None) -> None:
    """Turn logits [C, V] in place into derivatives of the targets' negative log-probabilities.

    Overwrites ``probabilities`` [C, V].
    """
    slopes = probabilities.scatter_add_(1, targets[:, None], -torch.ones_like(probabilities[:, :1]))
    if cap is not None:
        slopes *= 1 - torch.tanh(logits.float() / cap) ** 2
    logits.copy_(slopes)


class _Layer:
    """The layer in the data type of its matrix products."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias
        self._place: Tensor | None = None

    def logits(self, hidden: Tensor, place: Tensor | None = None) -> Tensor:
        """Logits [C, V], in ``place`` [C, V] if given, else in a buffer of the layer that the next call overwrites."""
        hidden = hidden.to(self.weight.dtype)
        if place is None:
            if self._place is None:
                self._place = hidden.new_empty(len(hidden), len(self.weight))
            place = self._place[: len(hidden)]
        if self.bias is None:
            return torch.mm(hidden, self.weight.t(), out=place)
        return torch.addmm(self.bias, hidden, self.weight.t(), out=place)


def _chunks(hidden: Tensor, weight: Tensor) -> list[slice]:
    """The tokens of each chunk; the first chunk is the largest."""
    rows = _chunk_rows(hidden, len(weight))
    return [slice(start, min(start + rows, len(hidden))) for start in range(0, len(hidden), rows)]


def _slices(logits: Tensor, first: int) -> Iterator[tuple[slice, Tensor]]:
    """(tokens, logits) of each slice of a chunk that begins with token ``first``."""
    rows = _rows(_SLICE, logits, logits.shape[1])
    for at in range(0, len(logits), rows):
        part = logits[at : at + rows]
        yield slice(first + at, first + at + len(part)), part


def _chunk_rows(hidden: Tensor, vocabulary: int) -> int:
    # With a large vocabulary few tokens fill a chunk, and each chunk adds a gradient as large as the layer for little
    # work. Logits no larger than the layer itself need little memory beside it, so more tokens are allowed.
    return max(_rows(_CHUNK, hidden, vocabulary), min(256, hidden.shape[-1]))


def _rows(elements: dict[str, int], like: Tensor, vocabulary: int) -> int:
    return max(1, _size(elements, like) // vocabulary)


def _size(elements: dict[str, int], like: Tensor) -> int:
    return elements["cpu" if like.device.type == "cpu" else "cuda"]


def _capped(logits: Tensor, cap: float | None) -> Tensor:
    return logits if cap is None else torch.tanh(logits / cap) * cap

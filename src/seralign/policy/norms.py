"""Fused root-mean-square norms.

The layers of transformers do several times the elementwise work, and keep several times as much for the backward pass.

Legend: T tokens, W width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from seralign.policy.precision import compute_dtype

# Names of the epsilon in transformers' layers.
_EPSILON = ("variance_epsilon", "eps")


def fuse_norms(model: nn.Module) -> int:
    """Fuse the root-mean-square norms of a model, and return how many were fused.

    A norm is recognised by its results on a few random rows. A module that computes something else (Gemma's weights
    that count from one, a bias, groups) stays as it is. So does one whose forward pass was already replaced, or that
    takes more than the hidden states (Mamba 2's gate).
    """
    found = [module for module in model.modules() if _is_plain(module)]
    for module in found:
        module.forward = MethodType(_forward, module)
    return len(found)


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``weight * hidden / sqrt(mean(hidden^2) + epsilon)``, in float32 or better (1910.07467, equation 4).

    Args:
        hidden: [..., T, W].
        weight: [W].
        epsilon: Keeps the root above zero.

    Returns:
        [..., T, W]; under autocast in its data type, ready for the matrix products that follow.
    """
    promoted = torch.promote_types(hidden.dtype, weight.dtype)
    dtype = compute_dtype(hidden) if promoted == torch.float32 else promoted
    with torch.autocast(hidden.device.type, enabled=False):
        return _RmsNorm.apply(hidden, weight, epsilon, dtype)


def _forward(module: Any, hidden_states: Tensor) -> Tensor:
    return rms_norm(hidden_states, module.weight, _epsilon(module))


def _epsilon(module: nn.Module) -> Any:
    return next((vars(module)[name] for name in _EPSILON if name in vars(module)), None)


def _is_plain(module: nn.Module) -> bool:
    shapes = [(name, parameter.dim()) for name, parameter in module.named_parameters()]
    known = shapes == [("weight", 1)] and isinstance(_epsilon(module), float) and not any(module.children())
    if not known or "forward" in vars(module) or module.weight.is_meta:
        return False
    return len(inspect.signature(module.forward).parameters) == 1 and _computes_as_we_do(module)


def _computes_as_we_do(module: Any) -> bool:
    random = torch.Generator().manual_seed(0)
    draw: Callable[..., Tensor] = partial(torch.randn, generator=random)
    width = len(module.weight)
    for dtype in (torch.float32, torch.bfloat16):
        rows, weight = 3 * draw(2, 3, width).to(dtype), draw(width).to(dtype)
        try:
            with torch.no_grad(), torch.device("cpu"):
                theirs = functional_call(module, {"weight": weight}, (rows,))
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return False
        ours = rms_norm(rows, weight, _epsilon(module))
        if not isinstance(theirs, Tensor) or theirs.dtype != ours.dtype or theirs.shape != ours.shape:
            return False
        # Both round in the same places, but may sum over the width in a different order.
        close = {torch.float32: 1e-6, torch.bfloat16: 2**-7}[dtype]
        if not torch.allclose(ours.float(), theirs.float(), rtol=close, atol=close * 1e-2):
            return False
    return True


class _RmsNorm(torch.autograd.Function):
    """Keeps the input, which the residual stream holds anyway, and one number a token."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        exact = _exact(hidden)
        scale = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
        scale.square_().div_(hidden.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(hidden, weight, scale)
        normed = (exact * scale).to(hidden.dtype)
        out = normed.mul_(weight) if normed.dtype == weight.dtype else normed * weight
        return out.to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, weight, scale = ctx.saved_tensors
        with torch.autocast(hidden.device.type, enabled=False):
            normed, exact = _exact(hidden) * scale, _exact(grad)
            grad_weight = None
            if ctx.needs_input_grad[1]:
                grad_weight = (exact * normed).flatten(0, -2).sum(dim=0).to(weight.dtype)
            grad_hidden = None
            if ctx.needs_input_grad[0]:
                change = exact * _exact(weight)
                along = torch.linalg.vecdot(change, normed).div_(hidden.shape[-1])
                grad_hidden = change.sub_(normed.mul_(along[..., None])).mul_(scale).to(hidden.dtype)
        return grad_hidden, grad_weight, None, None


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))

"""The data type of a computation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """The data type of a matrix product with ``x``: autocast's if it is on, else that of ``x``."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def exact_dtype(device: torch.device) -> torch.dtype:
    """The most precise data type for sums on a device: float64, or float32 on mps, which lacks float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def wanted(*tensors: Any) -> tuple[Any, ...]:
    """The inputs of an autograd function, detached where gradients are off.

    torch reports ``requires_grad`` to the function even then, so it would keep tensors for a backward pass that never
    comes.
    """
    return tensors if torch.is_grad_enabled() else tuple(None if x is None else x.detach() for x in tensors)

"""In which data type a computation runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """The data type that a matrix product of ``x`` is computed in: autocast's where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def exact_dtype(device: torch.device) -> torch.dtype:
    """The most exact data type for sums on a device: float64, which mps lacks."""
    return torch.float32 if device.type == "mps" else torch.float64


def wanted(*tensors: Any) -> tuple[Any, ...]:
    """The inputs of an autograd function, none of which asks for a gradient where gradients are switched off: torch
    tells the function otherwise, and it would keep what no backward pass will read."""
    return tensors if torch.is_grad_enabled() else tuple(None if x is None else x.detach() for x in tensors)

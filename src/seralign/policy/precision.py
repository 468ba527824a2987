"""In which data type a computation runs."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """The data type that a matrix product of ``x`` is computed in: autocast's where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def exact_dtype(device: torch.device) -> torch.dtype:
    """The most exact data type for sums on a device: float64, which mps lacks."""
    return torch.float32 if device.type == "mps" else torch.float64

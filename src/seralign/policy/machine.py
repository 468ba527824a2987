"""Library versions and device. Results depend on them by rounding, so they are part of a result's identity."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from accelerate import PartialState


def computed_with() -> str:
    """Versions of the libraries, and the device."""
    return f"torch {torch.__version__}, transformers {transformers.__version__}:{_device_name()}"


def _device_name() -> str:
    device: Any = PartialState().device
    match device.type:
        case "cuda":
            return f"cuda {torch.cuda.get_device_name(device)}"
        case "cpu":
            return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return device.type

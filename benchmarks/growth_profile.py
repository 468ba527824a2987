"""Where the time of a training step goes, and how fast this machine multiplies matrices."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

PRODUCTS = "matrix products"
ATTENTION = "attention"
HEAD = "softmax of the output layer"
ELEMENTWISE = "norms and other elementwise"
OPTIMIZER = "optimizer"
OTHER = "Python and dispatch"
# A wide layer of the 17M model on a pack of tokens, and a product that is large enough for the best rate.
SHAPES = {"model": (2048, 384, 1024), "square": (2048, 2048, 2048)}
_STEPS = 3
_RATE_SECONDS = 0.6
# What the profiler calls the functions that compute attention and the output layer, forward and backward.
_PLACES = {"_Segments": ATTENTION, "_LinearLogps": HEAD, "optimizer": OPTIMIZER}
_MATRIX = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}


def categories(step: Callable[[], object]) -> dict[str, float]:
    """Shares of the wall time of profiled steps, 1 in all; the profiler itself counts to ``OTHER``.

    The products inside attention count to attention, those of the output layer to the matrix products.

    Raises:
        RuntimeError: attention or the output layer is not found among what was recorded.
    """
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        began = time.perf_counter()
        for _ in range(_STEPS):
            step()
        wall = (time.perf_counter() - began) * 1e6
    spent: dict[str, float] = dict.fromkeys((PRODUCTS, ATTENTION, HEAD, ELEMENTWISE, OPTIMIZER), 0.0)
    seen: defaultdict[str, int] = defaultdict(int)
    for event in recorded.events() or ():
        place = _place(event)
        seen[place] += 1
        if not event.name.startswith(("aten::", "mkldnn::", "onednn::")):
            continue
        inside = place in (ATTENTION, OPTIMIZER)
        spent[PRODUCTS if not inside and event.name in _MATRIX else place] += event.self_cpu_time_total
    missing = [place for place in _PLACES.values() if not seen[place]]
    if missing:
        raise RuntimeError(f"the profiler saw no {', '.join(missing)}")
    shares = {name: microseconds / wall for name, microseconds in spent.items()}
    return shares | {OTHER: 1 - sum(shares.values())}


def matrix_rates() -> dict[str, float]:
    """Billions of floating point operations a second in matrix products, by data type and shape; medians."""
    found: dict[str, float] = {}
    for dtype in (torch.bfloat16, torch.float32):
        for name, (rows, inner, columns) in SHAPES.items():
            left = torch.randn(rows, inner).to(dtype)
            # Weights lie as nn.Linear holds them.
            right = torch.randn(columns, inner).to(dtype).t()
            rates: list[float] = []
            began = time.perf_counter()
            while time.perf_counter() - began < _RATE_SECONDS:
                start = time.perf_counter()
                torch.mm(left, right)
                rates.append(2 * rows * inner * columns / (time.perf_counter() - start) / 1e9)
            found[f"{str(dtype).removeprefix('torch.')} {name} [{rows},{inner}]x[{inner},{columns}]"] = (
                statistics.median(rates)
            )
    return found


def _place(event: Any) -> str:
    while event is not None:
        for name, place in _PLACES.items():
            if event.name in (name, f"{name}Backward") or event.name.endswith(f": {name}Backward"):
                return place
        event = event.cpu_parent
    return ELEMENTWISE

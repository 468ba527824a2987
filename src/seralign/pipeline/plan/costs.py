"""Costs of work as lines through measured points, and the memory of this process.

On a CPU the peak is that of resident memory, as the kernel counts it. It includes freed memory that the allocator
keeps, as in the run. On a GPU it is the memory that torch has allocated, without losses by fragmentation.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from accelerate import PartialState
from scipy import stats


@dataclass(frozen=True)
class Line:
    """``base + slope * x``, neither of them negative."""

    base: float
    slope: float

    def at(self, x: float) -> float:
        """The value at ``x``."""
        return self.base + self.slope * x

    def reaches(self, y: float) -> int:
        """The largest whole ``x`` whose value is at most ``y``; below 0 where even 0 is too much."""
        if y < self.base:
            return -1
        return int((y - self.base) / self.slope) if self.slope > 0 else 2**62


@dataclass(frozen=True)
class Costs:
    """Of one pass, by its tokens: seconds, and the peak memory of the process in bytes.

    Args:
        seconds: Of a pass.
        bytes: Peak bytes.
        largest: The most tokens that were tried.
        error: Of the seconds of larger passes, as ``slope_error``.
        loading_bytes: Peak bytes while the model was loaded for the passes, before its weights were cast.
    """

    seconds: Line
    bytes: Line
    largest: int
    error: float | None = None
    loading_bytes: int = 0

    @property
    def peaks(self) -> list[Line]:
        """Peak bytes by the tokens of a pass: of the pass, and of loading."""
        return [self.bytes, Line(self.loading_bytes, 0.0)]


@dataclass(frozen=True)
class StepCosts:
    """Of training.

    Args:
        pack: Of a pack, forward and backward.
        optimizer: Seconds of the optimizer's part of a step.
        setup: Seconds of loading the policy and setting up the trainer.
        whole: Peak bytes of a step over one row: what the optimizer needs, whatever the pack.
        saved_bytes: Of a saved policy.
        state_bytes: Of the optimizer's state, and of a reference that moves.
    """

    pack: Costs
    optimizer: float
    setup: float
    whole: int
    saved_bytes: int
    state_bytes: int


@dataclass(frozen=True)
class SamplingCosts:
    """Of sampling.

    Args:
        prompt: Seconds of a prompt's token.
        step: Seconds of a step, however many rows it has.
        row: Seconds of a row in a step.
        prefill: Peak bytes by the tokens of all prompts of a batch.
        bytes: Peak bytes by the rows of a batch when each has ``measured`` tokens.
        measured: Tokens of a row, prompt and response.
        largest: The most rows that were tried.
        token_bytes: Bytes that one more token of a row takes.
        most_bytes: The most that the tokens of all rows may take.
        error: Of the seconds of larger batches, as ``slope_error``.
    """

    prompt: float
    step: float
    row: float
    prefill: Line
    bytes: Line
    measured: int
    largest: int
    token_bytes: int
    most_bytes: int
    error: float | None = None


def memory_at_hand() -> int:
    """Bytes that this process can have on its device: what it uses, and what is free."""
    device: Any = PartialState().device
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # the limit of a container, where there is one
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return free + psutil.Process().memory_info().rss


def memory_used() -> int:
    """Bytes that this process uses now."""
    device: Any = PartialState().device
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def forget_peak() -> None:
    """Reset the peak. Only Linux can; elsewhere the peak is still right, because measured sizes rise."""
    device: Any = PartialState().device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes that this process has used since ``forget_peak``."""
    device: Any = PartialState().device
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fit_seconds(points: Sequence[tuple[int, float]]) -> Line:
    """The least-squares line through (tokens, seconds); proportional where the points do not determine a line."""
    x, y = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    if len(set(x.tolist())) > 1:
        slope, base = np.polyfit(x, y, 1)
        if base >= 0 and slope >= 0:
            return Line(float(base), float(slope))
    return Line(0.0, float(y.sum() / x.sum()))


def slope_error(points: Sequence[tuple[int, float]], line: Line) -> float | None:
    """The half width of the 90% interval of the slope (Student's t, from the residuals), as a share of it: what a
    value far beyond the points may be off by. None where the points are too few, or determine no slope."""
    x, y = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    spread = float(((x - x.mean()) ** 2).sum())
    if len(x) < 3 or spread == 0 or line.slope <= 0:
        return None
    rest = y - line.base - line.slope * x
    free = len(x) - (2 if line.base > 0 else 1)
    spread = spread if line.base > 0 else float((x**2).sum())
    return float(stats.t.ppf(0.95, free) * math.sqrt(float(rest @ rest) / free / spread) / line.slope)


def fit_bytes(points: Sequence[tuple[int, int]], idle: int) -> Line:
    """The lowest line with the least-squares slope of (tokens, peak bytes) that has no point above it.

    With one point only, the line starts at ``idle``.
    """
    x, y = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    if len(set(x.tolist())) > 1:
        slope = max(0.0, float(np.polyfit(x, y, 1)[0]))
    else:
        slope = max(0.0, float((y.max() - idle) / x[0]))
    return Line(float((y - slope * x).max()), slope)

"""Measures how fast a processor computes in float32 and bfloat16.

Processors without bfloat16 arithmetic are a hundred times slower in it than in float32; others are twice as fast. The
processor's name does not tell which. Small models differ too, because their casts take longer than their products.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig

from seralign.errors import StoreError
from seralign.policy.identity import PolicySource
from seralign.runs.files import write_json

# Seconds of the probe. One try takes less, so there are always at least two at each precision.
_SECONDS = 1.0
# Products of wider models run at the same rate but take longer to measure.
_WIDEST = 768
_TOKENS = 256
# bfloat16 must be faster by this factor, because float32 is more precise and a step is not only products.
_CLEARLY = 1.25
# If the small probe differs by this factor, the large one is skipped; it would take minutes in the slower precision.
_HOPELESS = 4.0


@dataclass(frozen=True)
class Shape:
    """Width of a model's layer, and of its feed-forward part."""

    width: int
    inner: int


@dataclass(frozen=True)
class Rates:
    """Training speed of one layer on one core, in GFLOP of matrix products a second; includes the time of everything
    else, such as casts of the float32 weights."""

    float32: float
    bfloat16: float

    @property
    def fast(self) -> str:
        """The faster precision; float32 if bfloat16 is not clearly faster."""
        return "bfloat16" if self.bfloat16 > _CLEARLY * self.float32 else "float32"


def model_shape(source: PolicySource, trust_remote_code: bool) -> Shape:
    """The shape of a model's layer, from its configuration alone.

    Missing settings are guessed: the shape only decides what the probe measures.
    """
    config = AutoConfig.from_pretrained(
        source.model, revision=source.revision or "main", trust_remote_code=trust_remote_code
    ).get_text_config()
    width = int(getattr(config, "hidden_size", None) or 768)
    inner = getattr(config, "intermediate_size", None)
    return Shape(width, int(inner) if isinstance(inner, int) and inner > 0 else 4 * width)


def processor_rates(shape: Shape) -> Rates:
    """The speed of this machine's processor; cached between runs.

    Works without the cache if it cannot be read or written.
    """
    key = _key(shape)
    try:
        path = _cache_file()
    except RuntimeError:  # the user has no home folder
        return probe(shape)
    known = _read(path)
    if key in known:
        return known[key]
    found = probe(shape)
    with suppress(OSError, StoreError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may have written in the meantime.
        write_json(path, {name: asdict(rates) for name, rates in (_read(path) | {key: found}).items()})
    return found


def probe(shape: Shape, clock: Callable[[], float] = time.perf_counter) -> Rates:
    """Measure the speed for about a second with one thread. Several threads would wait for each other on shared cores,
    for longer than a small layer takes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _probe(shape, clock)
    finally:
        torch.set_num_threads(threads)


def _probe(shape: Shape, clock: Callable[[], float]) -> Rates:
    narrow = Shape(min(shape.width, _WIDEST), min(shape.inner, 3 * _WIDEST))
    first = _rates(narrow, tokens=32, seconds=0.1, clock=clock)
    if max(first.float32, first.bfloat16) > _HOPELESS * min(first.float32, first.bfloat16):
        return first
    return _rates(narrow, _TOKENS, _SECONDS, clock)


def processor_name() -> str:
    """The processor's marketing name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _rates(shape: Shape, tokens: int, seconds: float, clock: Callable[[], float]) -> Rates:
    """The best of several alternating tries of each precision, so that other work on the machine slows both alike."""
    generator = torch.Generator().manual_seed(0)
    width, inner = shape.width, shape.inner
    sizes = [(tokens, width), *[(width, width)] * 4, (inner, width), (inner, width), (width, inner)]
    tensors = [torch.randn(*size, generator=generator).mul_(width**-0.5).requires_grad_() for size in sizes]
    best = {"float32": float("inf"), "bfloat16": float("inf")}
    for precision in best:  # warm up
        _layer(tensors, precision)
    began = clock()
    while clock() - began < seconds:
        for precision in best:
            started = clock()
            _layer(tensors, precision)
            best[precision] = min(best[precision], clock() - started)
    # Each product runs once forward and twice backward.
    work = 6e-9 * tokens * sum(weight.numel() for weight in tensors[1:])
    return Rates(**{precision: work / max(taken, 1e-9) for precision, taken in best.items()})


def _layer(tensors: Sequence[Tensor], precision: str) -> None:
    """One transformer layer, forward and backward; hidden states [T, W] and the weights of its products."""
    hidden, *attention, gate, up, down = tensors
    tokens, width = hidden.shape
    heads = width // 64 if width % 64 == 0 else 1
    with torch.enable_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            normed = F.rms_norm(hidden, (width,))
            query, key, value = (
                F.linear(normed, weight).view(1, tokens, heads, -1).transpose(1, 2) for weight in attention[:3]
            )
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            middle = hidden + F.linear(mixed.transpose(1, 2).reshape(tokens, width), attention[3])
            normed = F.rms_norm(middle, (width,))
            out = middle + F.linear(F.silu(F.linear(normed, gate)) * F.linear(normed, up), down)
        torch.autograd.grad(out.float().square().sum(), tensors)


def _cache_file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "seralign" / "precision.json"


def _key(shape: Shape) -> str:
    processor = f"{processor_name()} {torch.backends.cpu.get_cpu_capability()}"
    return f"{processor}, torch {torch.__version__}, layer {shape.width}x{shape.inner}"


def _read(path: Path) -> dict[str, Rates]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        found = {key: Rates(**rates) for key, rates in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    numbers = [rate for rates in found.values() for rate in (rates.float32, rates.bfloat16)]
    return found if all(isinstance(rate, float) and rate > 0 for rate in numbers) else {}

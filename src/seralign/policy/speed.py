"""How fast a processor computes in float32 and in bfloat16, found out by trying.

Processors without bfloat16 arithmetic compute it a hundred times slower than float32, others twice as fast; the
processor's name does not tell, nor how it is for a small model, where casts take longer than products.
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

# Seconds of the probe. What one try takes is less: a second attempt at each precision is always made.
_SECONDS = 1.0
# The products of a wider model are as fast as those of this one, and take longer.
_WIDEST = 768
_TOKENS = 256
# So much faster bfloat16 has to be: float32 is the more exact one, and a step has parts besides products.
_CLEARLY = 1.25
# From this factor on nothing larger is tried with the slower one: it would take minutes.
_HOPELESS = 4.0


@dataclass(frozen=True)
class Shape:
    """A model's layer: its width, and that of its feed-forward part."""

    width: int
    inner: int


@dataclass(frozen=True)
class Rates:
    """GFLOP a second of a layer's training on one core, by its products; casts of the float32 weights and all else take
    time."""

    float32: float
    bfloat16: float

    @property
    def fast(self) -> str:
        """The faster precision; float32, the more exact one, where bfloat16 is not clearly faster."""
        return "bfloat16" if self.bfloat16 > _CLEARLY * self.float32 else "float32"


def model_shape(source: PolicySource, trust_remote_code: bool) -> Shape:
    """The shape of a model's products, from its configuration alone.

    A name that the architecture has not is guessed from another, the width from a common one: the shape decides only
    what is tried.
    """
    config = AutoConfig.from_pretrained(
        source.model, revision=source.revision or "main", trust_remote_code=trust_remote_code
    ).get_text_config()
    width = int(getattr(config, "hidden_size", None) or 768)
    inner = getattr(config, "intermediate_size", None)
    return Shape(width, int(inner) if isinstance(inner, int) and inner > 0 else 4 * width)


def processor_rates(shape: Shape) -> Rates:
    """The rates of this machine's processor; from the cache of an earlier probe.

    A cache that cannot be read or written is not used.
    """
    key = _key(shape)
    try:
        path = _cache_file()
    except RuntimeError:  # a user without a home
        return probe(shape)
    known = _read(path)
    if key in known:
        return known[key]
    found = probe(shape)
    with suppress(OSError, StoreError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may have written meanwhile.
        write_json(path, {name: asdict(rates) for name, rates in (_read(path) | {key: found}).items()})
    return found


def probe(shape: Shape, clock: Callable[[], float] = time.perf_counter) -> Rates:
    """Measure the rates, about a second long, with one thread: several wait for each other where cores are shared,
    and their waits are longer than a small layer."""
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
    """The processor as its maker calls it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _rates(shape: Shape, tokens: int, seconds: float, clock: Callable[[], float]) -> Rates:
    """The best of several tries of each, taken in turn, so that other work on the machine meets both."""
    generator = torch.Generator().manual_seed(0)
    width, inner = shape.width, shape.inner
    sizes = [(tokens, width), *[(width, width)] * 4, (inner, width), (inner, width), (width, inner)]
    tensors = [torch.randn(*size, generator=generator).mul_(width**-0.5).requires_grad_() for size in sizes]
    best = {"float32": float("inf"), "bfloat16": float("inf")}
    for precision in best:  # what is made at first use is no part of the rate
        _layer(tensors, precision)
    began = clock()
    while clock() - began < seconds:
        for precision in best:
            started = clock()
            _layer(tensors, precision)
            best[precision] = min(best[precision], clock() - started)
    # Each product is there once forward and twice backward.
    work = 6e-9 * tokens * sum(weight.numel() for weight in tensors[1:])
    return Rates(**{precision: work / max(taken, 1e-9) for precision, taken in best.items()})


def _layer(tensors: Sequence[Tensor], precision: str) -> None:
    """One transformer layer, forward and backward: hidden states [T, W] and the weights of its products."""
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

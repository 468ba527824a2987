"""Time of the parts of a run from formulas. docs/planning.md has each of them with its source.

Times on GPUs have not been measured: the efficiencies are assumptions, and options of the command.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from seralign.checks import positive, require
from seralign.config import LOCAL, RunConfig
from seralign.pipeline.projection.memory import (
    Machine,
    cache_bytes,
    product_bytes,
    rows_together,
    sampling_bytes,
    scoring_bytes,
)
from seralign.pipeline.projection.parts import Part, Passes, Sampling
from seralign.pipeline.projection.shape import ModelShape
from seralign.policy.load import DTYPES


@dataclass(frozen=True)
class Efficiency:
    """What is reached of a GPU's figures.

    Args:
        mfu: Share of the peak rate of matrix products in training and scoring (model FLOPs utilization).
        bandwidth: Share of the bandwidth of its memory, when decoding and in the optimizer.
        link: Share of the bandwidth between GPUs.
        launch: Seconds of a layer in one decoding step of the engine ``local`` that do not depend on its size.
    """

    mfu: float = 0.4
    bandwidth: float = 0.7
    link: float = 0.7
    launch: float = 0.75e-3

    def __post_init__(self) -> None:
        for name in ("mfu", "bandwidth", "link"):
            positive(getattr(self, name), f"--{name}")
            require(getattr(self, name) <= 1.0, f"--{name}", "at most 1", getattr(self, name))


def part_flops(part: Part, shape: ModelShape) -> float:
    """Useful FLOPs of a part of the work: recomputed activations do not count."""
    if isinstance(part.work, Sampling):
        work = part.work
        rows = work.prompts * work.samples
        context = work.prompt + work.response / 2
        decoded = rows * work.response * (2 * shape.products + 4 * shape.layers * shape.queries * context)
        layers = 2 * (shape.products - shape.head) + 4 * shape.layers * shape.queries * work.prompt / 2
        return decoded + work.prompts * (work.prompt * layers + 2 * shape.head)
    forward, head = _forward(part.work, shape)
    if not part.work.steps:
        return forward + head
    return forward * (2 if shape.lora else 3) + head * (2 if shape.lora else 3)


def part_seconds(part: Part, config: RunConfig, shape: ModelShape, machine: Machine, efficiency: Efficiency) -> float:
    """Seconds of a part of the work on all GPUs."""
    match part.work:
        case Sampling() as work:
            local = config.evaluation if part.kind == "evaluation" else config.bootstrap
            assert local is not None
            return _decoding(work, config, shape, machine, efficiency, local.sampling.engine == LOCAL)
        case Passes() as work if work.steps:
            return _training(part, work, config, shape, machine, efficiency)
        case Passes() as work:
            computing = part_flops(part, shape) / (machine.gpus * machine.device.flops * efficiency.mfu)
            if not machine.divides_scoring:
                return computing
            _, s = scoring_bytes(part.kind, config)
            packs = math.ceil(work.total / (max(work.budget, work.tokens) * machine.gpus))
            return max(computing, packs * _collective(s * shape.weights, machine, efficiency))


def _forward(work: Passes, shape: ModelShape) -> tuple[float, float]:
    """FLOPs of the forward passes in the layers and in the output layer, which only responses reach."""
    layer = 2 * (shape.products - shape.head) + 4 * shape.layers * shape.queries * work.longest / 2
    return work.total * layer, work.rows * work.responses * 2 * shape.head


def _training(
    part: Part, work: Passes, config: RunConfig, shape: ModelShape, machine: Machine, efficiency: Efficiency
) -> float:
    settings = config.sft if part.stage == "sft" else config.training
    assert settings is not None
    device, g = machine.device, machine.gpus
    flops = part_flops(part, shape) + (_forward(work, shape)[0] if work.checkpointing else 0.0)
    # A row cannot be divided among GPUs.
    busy = min(g, work.batch)
    computing = flops / (busy * device.flops * efficiency.mfu)
    own = 4 if shape.lora else DTYPES[config.policy.dtype].itemsize
    divided = g if machine.shard != "none" else 1
    # AdamW reads weights, gradients and both moments, and writes all but the gradients.
    updates = work.steps * 7 * own * shape.trained / divided / (device.bandwidth * efficiency.bandwidth)
    if g == 1:
        return computing + updates
    s = product_bytes(settings.precision, config)
    packs = max(1, math.ceil(work.batch * work.tokens / (g * max(work.budget, work.tokens))))
    weights, gradients = s * shape.weights, own * shape.trained
    if machine.divides_weights:
        # Gathered for the forward and for the backward pass, while the GPU computes the layer before.
        moved = packs * (2 * _collective(weights, machine, efficiency) + _collective(gradients, machine, efficiency))
        return max(computing, work.steps * moved) + updates
    if machine.shard == "zero2":
        moved = packs * _collective(s * shape.trained, machine, efficiency)
        moved += _collective(s * shape.trained, machine, efficiency)
    else:
        moved = 2 * _collective(gradients, machine, efficiency)
    return computing + work.steps * moved + updates


def _collective(size: float, machine: Machine, efficiency: Efficiency) -> float:
    """Seconds to gather or to reduce and scatter so many bytes in a ring."""
    g = machine.gpus
    return size * (g - 1) / g / (machine.device.between(g) * efficiency.link)


def _decoding(
    work: Sampling, config: RunConfig, shape: ModelShape, machine: Machine, efficiency: Efficiency, local: bool
) -> float:
    """Each GPU has a copy of the weights, and its share of the prompts."""
    device, s = machine.device, sampling_bytes(config)
    rate, bandwidth = device.flops * efficiency.mfu, device.bandwidth * efficiency.bandwidth
    rows = rows_together(work, shape, s, device)
    prompts = math.ceil(work.prompts / machine.gpus)
    batches = math.ceil(prompts * work.samples / rows)
    context = work.prompt + work.response / 2
    # Rows that are done leave the batch, so the mean length counts for rows, and the limit for steps.
    living = rows * work.response / work.limit
    step = max(
        (s * shape.weights + living * context * cache_bytes(shape, s)) / bandwidth,
        living * (2 * shape.products + 4 * shape.layers * shape.queries * context) / rate,
    )
    prefill = prompts * work.prompt * 2 * (shape.products - shape.head) / rate
    return prefill + batches * work.limit * (step + (efficiency.launch * shape.layers if local else 0.0))

"""Peak memory of one GPU from formulas. docs/planning.md has each of them with its source.

Legend: N weights, P trained weights, T tokens of a forward pass, L layers, W width, F width of the feed-forward part,
V vocabulary, g GPUs, w bytes of a stored weight, s bytes of a number in matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import get_args

from seralign.config import RunConfig, TrainingConfig
from seralign.config.training import Shard
from seralign.pipeline.projection.devices import Device
from seralign.pipeline.projection.parts import Kind, Part, Passes, Sampling
from seralign.pipeline.projection.shape import ModelShape
from seralign.policy.load import DTYPES

SHARDS: tuple[Shard, ...] = get_args(Shard)
# Share of a GPU's memory that may be used; the rest is for the driver, buffers of collectives, and fragmentation.
USABLE = 0.9
# Elements that DeepSpeed reduces at once: the default of ``reduce_bucket_size``.
_BUCKET = 5e8
# An adapter is float32 whatever the data type of the policy.
_ADAPTER = 4
# The share of the memory that the keys and values of a batch may take (``seralign.policy.decoding``).
_CACHE_SHARE = 0.25


@dataclass(frozen=True)
class Machine:
    """GPUs, and how a training is divided among them."""

    device: Device
    gpus: int = 1
    shard: Shard = "none"

    @property
    def divides_weights(self) -> bool:
        """Whether each GPU holds a part of the weights only, in training."""
        return self.gpus > 1 and self.shard in ("fsdp", "zero3")

    @property
    def divides_scoring(self) -> bool:
        """Whether each GPU holds a part of the weights only, in scoring."""
        return self.gpus > 1 and self.shard == "fsdp"


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU at the peak.

    Args:
        weights: Stored weights, and those that are gathered for a layer.
        gradients: Gradients, and buffers to reduce them.
        optimizer: State of the optimizer.
        activations: What the backward pass needs; casts of weights too.
        logits: Of the output layer.
        cache: Keys and values.
    """

    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return sum(getattr(self, field.name) for field in fields(self))


def part_memory(part: Part, config: RunConfig, shape: ModelShape, machine: Machine) -> Memory:
    """Peak memory of a part of a run's work."""
    own = _own_memory(part, config, shape, machine)
    return replace(own, weights=own.weights + part.models * DTYPES[config.policy.dtype].itemsize * shape.weights)


def _own_memory(part: Part, config: RunConfig, shape: ModelShape, machine: Machine) -> Memory:
    """Without the other models that are in memory."""
    match part.work:
        case Sampling() as work:
            return _sampling(work, config, shape, machine)
        case Passes() as work if work.steps:
            settings = config.sft if part.stage == "sft" else config.training
            assert settings is not None
            return training_memory(work, settings, config, shape, machine)
        case Passes() as work:
            # The reference of a training on sampled responses keeps its weights.
            once = config.rlhf is None or part.kind != "reference scoring"
            return _scoring(work, shape, machine, *scoring_bytes(part.kind, config), once)


def training_memory(
    work: Passes, settings: TrainingConfig, config: RunConfig, shape: ModelShape, machine: Machine
) -> Memory:
    """Peak memory of optimizer steps."""
    w, s = DTYPES[config.policy.dtype].itemsize, product_bytes(settings.precision, config)
    tokens = max(work.budget, work.tokens)
    weights, gradients, state = states(settings, shape, machine, w, s)
    copies = s * shape.products if s < w else 0
    gathered = max(shape.layer, shape.head)
    if machine.divides_weights:
        # The layer at work and the next one, and the whole gradient of a layer before it is divided.
        weights, copies = weights + 2 * s * gathered, 0
        gradients += 4 * gathered if not shape.lora else 0
    elif machine.gpus > 1:
        copies = copies if machine.shard == "none" else 0
        gradients += s * min(_BUCKET, shape.trained) if machine.shard == "zero2" else w * shape.trained
    elif work.checkpointing and shape.lora:
        copies = min(copies, s * gathered)
    activations = copies + tokens * activation_bytes(work, shape, w, s, machine.device)
    logits = _logits(tokens * work.responses / work.tokens, shape, s, machine.device) + 4 * shape.head * (
        not shape.lora
    )
    # torch's AdamW over lists of tensors needs one more copy of the trained weights, when the activations are gone.
    step = 4 * shape.trained / (1 if machine.shard == "none" else machine.gpus) if machine.device.foreach else 0
    activations = max(activations, step - logits)
    return Memory(weights, gradients, state, activations, logits)


def activation_bytes(work: Passes, shape: ModelShape, w: int, s: int, device: Device) -> float:
    """Bytes that the backward pass needs of one token, in all layers."""
    layer = layer_bytes(shape, w, s)
    if device.probabilities:
        layer += s * shape.heads * work.longest
    return shape.layers * w * shape.width + layer if work.checkpointing else shape.layers * layer


def layer_bytes(shape: ModelShape, w: int, s: int) -> float:
    """Bytes that the backward pass needs of one token in one layer, without the probabilities of attention.

    The inputs of both norms, their outputs, queries, keys, values, the output of attention, and of the feed-forward
    part its inputs and, with a gate, both factors and the gate.
    """
    norms = 2 * w * shape.width + 2 * s * shape.width + 10 * shape.unfused * shape.width
    return norms + s * (2 * shape.queries + 2 * shape.keys) + s * (4 if shape.gated else 2) * shape.inner


def cache_bytes(shape: ModelShape, s: int) -> int:
    """Bytes of the keys and values of one token."""
    return 2 * s * shape.layers * shape.keys


def rows_together(work: Sampling, shape: ModelShape, s: int, device: Device) -> int:
    """Responses that are decoded at once: those of a batch, as long as their keys and values have room."""
    rows = min(work.together, work.prompts) * work.samples
    room = _CACHE_SHARE * device.memory / (cache_bytes(shape, s) * (work.prompt + work.limit))
    return max(1, min(rows, int(room)))


def product_bytes(precision: str, config: RunConfig) -> int:
    """Bytes of a number in matrix products; ``auto`` is bfloat16 on a GPU."""
    return DTYPES[config.policy.dtype if precision == "float32" else "bfloat16"].itemsize


def scoring_bytes(kind: Kind, config: RunConfig) -> tuple[int, int]:
    """Bytes of a stored weight, and of a number in matrix products, where a model scores. The reference computes as the
    training does. Other scoring in float32 has float32 weights, whatever those of the policy."""
    own = DTYPES[config.policy.dtype].itemsize
    if kind == "reference scoring":
        return own, product_bytes(config.training.precision, config)
    if config.scoring.dtype == "float32":
        return 4, 4
    return own, product_bytes(config.scoring.dtype, config)


def sampling_bytes(config: RunConfig) -> int:
    """Bytes of a weight to sample from: bfloat16 where scoring is in bfloat16, else as the policy's."""
    return product_bytes("bfloat16" if config.scoring.dtype in ("bfloat16", "auto") else "float32", config)


def states(settings: TrainingConfig, shape: ModelShape, machine: Machine, w: int, s: int) -> tuple[float, float, float]:
    """Bytes of weights, gradients and the optimizer's state on one GPU (1910.02054, figure 1)."""
    own = _ADAPTER if shape.lora else w
    moments = 2 if "adam" in settings.optimizer else 0
    each = 1 if "8bit" in settings.optimizer else own
    weights, gradients, state = (
        w * shape.weights + own * shape.lora,
        own * shape.trained,
        moments * each * shape.trained,
    )
    g = machine.gpus
    if g == 1 or machine.shard == "none":
        return weights, gradients, state
    if machine.shard == "fsdp":
        return weights / g, gradients / g, state / g
    # DeepSpeed keeps weights and gradients as they are computed with, and a float32 copy beside the moments.
    master = own * shape.trained if s < own else 0
    weights, gradients = s * shape.weights, s * shape.trained
    return (weights / g if machine.shard == "zero3" else weights), gradients / g, (state + master) / g


def _scoring(work: Passes, shape: ModelShape, machine: Machine, w: int, s: int, once: bool) -> Memory:
    """``once``: whether weights are cast when the model is loaded, if they are cast at all."""
    tokens = max(work.budget, work.tokens)
    activations = tokens * _passing(shape, w, s)
    logits = _logits(tokens * work.responses / work.tokens, shape, s, machine.device, kept=0)
    weights = w * shape.weights
    if machine.divides_scoring:
        weights = weights / machine.gpus + 2 * s * max(shape.layer, shape.head)
    elif s < w:
        whole = weights + s * shape.matrix
        weights = whole if not once else weights - (w - s) * shape.cast + s * shape.recast
        # A model is whole until its weights are cast; it is then tried on a few tokens.
        weights = max(weights, whole - activations - logits)
    return Memory(weights=weights, activations=activations, logits=logits)


def _sampling(work: Sampling, config: RunConfig, shape: ModelShape, machine: Machine) -> Memory:
    s = sampling_bytes(config)
    rows = rows_together(work, shape, s, machine.device)
    cache = rows * (work.prompt + work.limit) * cache_bytes(shape, s)
    prefill = min(work.together, work.prompts) * work.prompt * _passing(shape, s, s)
    # Logits of a step, and two float32 copies to draw from.
    return Memory(weights=s * shape.weights, activations=prefill, logits=3 * 4.0 * rows * shape.vocabulary, cache=cache)


def _passing(shape: ModelShape, w: int, s: int) -> float:
    """Bytes of one token at the widest point of a layer without gradient."""
    return 2 * w * shape.width + s * (shape.width + (3 if shape.gated else 2) * shape.inner)


def _logits(tokens: float, shape: ModelShape, s: int, device: Device, kept: int | None = None) -> float:
    """A chunk of logits with two float32 copies, and derivatives that are kept for the backward pass."""
    together = min(tokens, max(device.logits // shape.vocabulary, min(256, shape.width)))
    stored = min(tokens, (device.kept if kept is None else kept) // shape.vocabulary)
    return together * shape.vocabulary * (s + 2 * 4.0) + stored * shape.vocabulary * s

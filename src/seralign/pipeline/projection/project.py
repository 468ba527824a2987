"""The projection of a run onto GPUs: parts of its work with memory, time and money, and whether it fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from seralign.config import LoraConfig, RunConfig
from seralign.errors import ConfigError
from seralign.pipeline.checks import check_sections
from seralign.pipeline.precision import settled
from seralign.pipeline.projection.data import CHARACTERS, DataSizes, data_sizes
from seralign.pipeline.projection.devices import DEVICES
from seralign.pipeline.projection.fit import Choice, remedies
from seralign.pipeline.projection.memory import USABLE, Machine, Memory, part_memory
from seralign.pipeline.projection.parts import Kind, Part
from seralign.pipeline.projection.shape import ModelShape, model_config, model_shape
from seralign.pipeline.projection.speed import Efficiency, part_flops, part_seconds
from seralign.pipeline.projection.work import run_work

_HOUR = 3600.0


@dataclass(frozen=True)
class PartEstimate:
    """A part of a stage's work.

    Args:
        stage: Name of the stage.
        kind: What the model does.
        tokens: Tokens that go through the model.
        flops: Useful FLOPs.
        memory: Bytes of one GPU at the peak.
        seconds: On all GPUs.
        gpu_hours: Hours of all GPUs together.
        cost: Money; None without a price.
    """

    stage: str
    kind: Kind
    tokens: int
    flops: float
    memory: Memory
    seconds: float
    gpu_hours: float
    cost: float | None


@dataclass(frozen=True)
class Projection:
    """A run on GPUs that are not here.

    Args:
        machine: The GPUs.
        efficiency: What is reached of their figures.
        shape: Sizes of the model.
        data: Sizes of the data.
        parts: The work, in order.
        usable: Bytes of a GPU that may be used.
        remedies: Changes with which the run would fit; empty if it fits, or if none was found.
        notes: What the figures rest on.
    """

    machine: Machine
    efficiency: Efficiency
    shape: ModelShape
    data: DataSizes
    parts: list[PartEstimate]
    usable: float
    remedies: list[str]
    notes: list[str]

    @property
    def peak(self) -> float:
        """The largest memory of a part, in bytes of one GPU."""
        return max(part.memory.total for part in self.parts)

    @property
    def fits(self) -> bool:
        """Whether every part fits."""
        return self.peak <= self.usable

    @property
    def seconds(self) -> float:
        """Of all parts."""
        return sum(part.seconds for part in self.parts)

    def by_kind(self) -> dict[Kind, list[PartEstimate]]:
        """The parts by kind, in the order in which kinds first occur."""
        found: dict[Kind, list[PartEstimate]] = {}
        for part in self.parts:
            found.setdefault(part.kind, []).append(part)
        return found

    def to_dict(self) -> dict[str, Any]:
        """All figures by name, as JSON values."""
        totals = {"peak_bytes": self.peak, "seconds": self.seconds, "fits": self.fits}
        return asdict(self) | totals


def project_run(
    config: RunConfig, machine: Machine, efficiency: Efficiency, given: dict[str, int], price: float | None = None
) -> Projection:
    """Memory, time and money of a run on GPUs. Only the configuration of the model is read.

    Args:
        config: The run.
        machine: The GPUs.
        efficiency: What is reached of their figures.
        given: Sizes of the data by the names of ``DataSizes``; others are those of known data sets or of local files.
        price: Of a GPU for an hour.

    Raises:
        SeralignError: the configuration is wrong, or the sizes of model or data are not known.
    """
    if config.world is not None:
        raise ConfigError("world: a run in a world is small; plan it without --gpu")
    check_sections(config)
    config = settled(config, "bfloat16")
    data = data_sizes(config, given)
    settings = model_config(config.policy)
    trust = config.policy.trust_remote_code

    @cache
    def shape_of(rank: int | None, targets: str) -> ModelShape:
        lora = None if rank is None else replace(config.policy.lora or LoraConfig(), r=rank)
        return model_shape(settings, lora, trust)

    def shape(config: RunConfig) -> ModelShape:
        lora = config.policy.lora
        return shape_of(None if lora is None else lora.r, "" if lora is None else str(lora.target_modules))

    def fits(choice: Choice) -> bool:
        sizes = shape(choice.config)
        parts = run_work(choice.config, data)
        peak = max(part_memory(part, choice.config, sizes, choice.machine).total for part in parts)
        return peak <= USABLE * choice.machine.device.memory

    own, choice = shape(config), Choice(config, machine)
    parts = [_estimate(part, config, own, machine, efficiency, price) for part in run_work(config, data)]
    return Projection(
        machine,
        efficiency,
        own,
        data,
        parts,
        USABLE * machine.device.memory,
        [] if fits(choice) else remedies(choice, fits),
        _notes(config, machine, efficiency, data),
    )


def _estimate(
    part: Part, config: RunConfig, shape: ModelShape, machine: Machine, efficiency: Efficiency, price: float | None
) -> PartEstimate:
    seconds = part_seconds(part, config, shape, machine, efficiency)
    hours = seconds * machine.gpus / _HOUR
    return PartEstimate(
        part.stage,
        part.kind,
        round(part.work.total),
        part_flops(part, shape),
        part_memory(part, config, shape, machine),
        seconds,
        hours,
        None if price is None else hours * price,
    )


def _notes(config: RunConfig, machine: Machine, efficiency: Efficiency, data: DataSizes) -> list[str]:
    found = [
        "from formulas (docs/planning.md); times on GPUs have not been measured",
        f"assumed: {efficiency.mfu:.0%} of peak FLOP/s, {efficiency.bandwidth:.0%} of memory bandwidth, "
        f"{efficiency.link:.0%} of link bandwidth",
        f"data: {data.pairs:,} pairs, {data.heldout:,} held out, {data.prompts:,} prompts, {data.demonstrations:,} "
        f"demonstrations; mean tokens: prompt {data.prompt_tokens}, response {data.response_tokens}, demonstration "
        f"{data.demonstration_tokens} (where counted, {CHARACTERS:.0f} characters a token)",
        "not counted: loading and saving models, compilation, the judge, and idle time between stages",
    ]
    if config.rounds > 1 and config.stop.metric != "never":
        found.append(f"all {config.rounds} rounds are counted; stop.metric: {config.stop.metric} may end them earlier")
    if config.reference.model is not None:
        found.append("the cost of reference.model is assumed to be that of the policy")
    if machine.gpus > config.training.batch_size:
        found.append(
            f"training.batch_size: {config.training.batch_size} is less than --gpus {machine.gpus}; the other GPUs wait"
        )
    return found


def known_gpus() -> str:
    """The names of the GPUs."""
    return ", ".join(DEVICES)

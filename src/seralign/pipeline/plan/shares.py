"""Memory of each of several processes that divide a model by ``training.shard``: what one process needs by measurement,
less what the formulas of ``seralign.pipeline.projection`` say that dividing saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seralign.config import RunConfig
from seralign.errors import ConfigError, ModelError
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.plan.estimate import Measured, Saved, stage_bytes
from seralign.pipeline.projection.devices import DEVICES
from seralign.pipeline.projection.memory import Machine, part_memory
from seralign.pipeline.projection.parts import Kind, Part, Passes
from seralign.pipeline.projection.shape import ModelShape, model_config, model_shape

# Numbers of processes that a plan lists.
PROCESSES = (2, 4, 8)


@dataclass(frozen=True)
class Share:
    """Peak bytes of a stage in each of so many processes."""

    stage: str
    processes: int
    peak_bytes: int


def shares(config: RunConfig, work: Sequence[StageWork], measured: Measured) -> list[Share]:
    """The shares of all stages with a model; none if ``training.shard`` is ``none``, or the sizes of the model cannot
    be counted."""
    if config.training.shard == "none":
        return []
    try:
        settings = model_config(config.policy)
        shape = model_shape(settings, config.policy.lora, config.policy.trust_remote_code)
    except (ConfigError, ModelError):
        return []
    found = []
    for stage in work:
        for processes in PROCESSES:
            peak = stage_bytes(stage, measured, _saved(stage, config, shape, processes))
            if peak is not None:
                found.append(Share(stage.name, processes, max(peak, measured.idle)))
    return found


def _saved(stage: StageWork, config: RunConfig, shape: ModelShape, processes: int) -> Saved:
    def difference(kind: Kind, tokens: int, longest: int, steps: int) -> float:
        section = config.sft if stage.name == "sft" and config.sft is not None else config.training
        checkpointing = section.gradient_checkpointing
        passes = Passes(1, tokens, longest, tokens, tokens, steps=steps, batch=1, checkpointing=checkpointing)
        device = replace(DEVICES["h100"], foreach=False)
        one, many = Machine(device), Machine(device, processes, section.shard)
        before, after = (
            part_memory(Part(stage.name, kind, passes), config, shape, machine).total for machine in (one, many)
        )
        return before - after

    steps, tokens = stage.steps, max((int(part.tokens.max()) for part in stage.passes), default=0)
    # Passes of a training compute as the training does.
    kinds: set[Kind] = {"scoring" if part.section == "scoring" else "reference scoring" for part in stage.passes}
    longest = max((part.longest for part in stage.passes), default=0)
    return Saved(
        min((difference(kind, tokens, longest, 0) for kind in kinds), default=0.0),
        0.0 if steps is None else difference("training", int(steps.tokens.max()), steps.longest, 1),
    )

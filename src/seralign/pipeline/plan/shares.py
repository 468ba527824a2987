"""Memory of each of several processes that divide a model by ``training.shard``: what one process needs by measurement,
less what the formulas of ``seralign.pipeline.projection`` say that dividing saves. On a CPU, each process loads the
whole model before it is divided, and needs at least that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from accelerate import PartialState

from seralign.config import RunConfig
from seralign.errors import ConfigError, ModelError
from seralign.pipeline.forecast import work as forecast
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.plan.estimate import Measured, Saved, stage_bytes
from seralign.pipeline.projection.devices import DEVICES
from seralign.pipeline.projection.memory import Machine, part_memory, scoring_bytes
from seralign.pipeline.projection.parts import Kind, Part, Passes
from seralign.pipeline.projection.shape import ModelShape, model_config, model_shape
from seralign.policy.load import DTYPES

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
    file = DTYPES.get(str(settings.dtype).removeprefix("torch."))
    found = []
    for stage in work:
        for processes in PROCESSES:
            saved = _saved(stage, config, shape, processes)
            saved = replace(saved, loading=_loading(stage, config, shape, None if file is None else file.itemsize))
            peak = stage_bytes(stage, measured, saved)
            if peak is not None:
                found.append(Share(stage.name, processes, max(peak, measured.idle)))
    return found


def _loading(stage: StageWork, config: RunConfig, shape: ModelShape, file: int | None) -> float:
    """Bytes of the whole model in a process that has yet to divide it, which are in main memory.

    Args:
        stage: What loads it.
        config: Of the run.
        shape: Sizes of the model.
        file: Bytes of a weight in the model's file. Its pages stay beside weights of another data type.
    """
    device: Any = PartialState().device
    if device.type != "cpu":
        return 0.0
    machine = Machine(DEVICES["h100"], PROCESSES[0], config.training.shard)
    each = [DTYPES[config.policy.dtype].itemsize] if stage.steps is not None and machine.divides_weights else []
    each += [scoring_bytes(_kind(part), config)[0] for part in stage.passes if machine.divides_scoring]
    return shape.weights * max((own + (file if file not in (None, own) else 0) for own in each), default=0)


def _kind(part: forecast.Passes) -> Kind:
    # Passes of a training compute as the training does.
    return "scoring" if part.section == "scoring" else "reference scoring"


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
    kinds: set[Kind] = {_kind(part) for part in stage.passes}
    longest = max((part.longest for part in stage.passes), default=0)
    return Saved(
        min((difference(kind, tokens, longest, 0) for kind in kinds), default=0.0),
        0.0 if steps is None else difference("training", int(steps.tokens.max()), steps.longest, 1),
    )

"""In which precision a run computes: ``auto`` is settled once, at its start, and stays what it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from accelerate import PartialState

from seralign import distributed
from seralign.config import RunConfig
from seralign.pipeline.context import run_stage
from seralign.policy.identity import PolicySource
from seralign.policy.speed import Rates, model_shape, processor_name, processor_rates
from seralign.progress import say
from seralign.runs import Run
from seralign.runs.figures import PrecisionFigures
from seralign.runs.layout import PRECISION

# From this factor on a slower precision is worth a word.
_SLOW = 1.5


def settle(run: Run, config: RunConfig, source: PolicySource) -> RunConfig:
    """The configuration with the precision that each ``auto`` stands for in this run.

    It is found out when the run begins and recorded: a run that is resumed, on whatever machine, computes as it
    began. A precision that is slow here, chosen or recorded, is a warning.
    """
    rates = _rates(config, source)

    def found(_: object) -> PrecisionFigures:
        if rates is None:
            return PrecisionFigures(_device_precision(), None, None)
        return PrecisionFigures(rates.fast, processor_name(), vars(rates))

    begun = distributed.broadcast(run.exists(PRECISION))
    run_stage(run, PRECISION, {}, found)
    fast = run.figures(PRECISION, PrecisionFigures).precision
    if rates is not None:
        if begun and "auto" in _chosen(config).values():
            _tell_slow("the run began with", fast, rates, "it is kept, so that the run ends with the same result")
        for key, precision in _chosen(config).items():
            _tell_slow(f"{key}:", precision, rates, f"give {key}: auto, or leave it out, for the faster one")
    return settled(config, fast)


def settled(config: RunConfig, fast: str) -> RunConfig:
    """The configuration with ``fast`` for each ``auto``."""
    return replace(
        config,
        training=_training(config.training, fast),
        sft=None if config.sft is None else _training(config.sft, fast),
        scoring=replace(config.scoring, dtype=_own(config.scoring.dtype, fast)),
    )


def _training(section: Any, fast: str) -> Any:
    return replace(section, precision=_own(section.precision, fast))


def _own(precision: str, fast: str) -> Any:
    return fast if precision == "auto" else precision


def _chosen(config: RunConfig) -> dict[str, str]:
    """The precision of each part of the run, by key."""
    chosen = {"training.precision": config.training.precision, "scoring.dtype": config.scoring.dtype}
    return chosen if config.sft is None else chosen | {"sft.precision": config.sft.precision}


def _rates(config: RunConfig, source: PolicySource) -> Rates | None:
    """What the main process's processor does; None where another device computes."""
    device: Any = PartialState().device
    if device.type != "cpu":
        return None
    shape = model_shape(source, config.policy.trust_remote_code)
    return distributed.broadcast(processor_rates(shape) if distributed.is_main() else None)


def _device_precision() -> str:
    """On a GPU bfloat16 is never the slower one where there is hardware for it."""
    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(False) else "float32"


def _tell_slow(what: str, precision: str, rates: Rates, advice: str) -> None:
    other = {"float32": "bfloat16", "bfloat16": "float32"}.get(precision)
    if other is None:
        return
    own, others = getattr(rates, precision), getattr(rates, other)
    if others > _SLOW * own:
        say(
            f"warning: {what} {precision}, which is slow on this processor ({processor_name()}): {own:.3g} GFLOP/s a "
            f"core against {others:.3g} in {other}; {advice}"
        )

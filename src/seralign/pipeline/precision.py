"""The precision of a run's computations. ``auto`` is settled once at the start and never changes in a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState

from seralign import distributed
from seralign.config import RunConfig
from seralign.policy.identity import PolicySource
from seralign.policy.speed import Rates, model_shape, processor_name, processor_rates
from seralign.progress import say
from seralign.runs.figures import PrecisionFigures
from seralign.runs.layout import PRECISION

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast
    from seralign.pipeline.start import Start

# A precision that is slower by this factor gets a warning.
_SLOW = 1.5


@dataclass(frozen=True)
class Precision:
    """The stage that settles what ``auto`` stands for in a run.

    The choice is recorded, so a run that is resumed on another machine computes the same.
    """

    name: str = PRECISION

    def inputs(self, start: Start) -> dict[str, str]:
        """Nothing, because the choice does not change on another processor."""
        return {}

    def work(self, start: Start, folder: Path) -> PrecisionFigures:
        """Find the precision that is fast here."""
        rates = start.rates
        if rates is None:
            return PrecisionFigures(_device_precision(), None, None)
        return PrecisionFigures(rates.fast, processor_name(), vars(rates))

    def tell(self, start: Start) -> None:
        """Give a warning if a precision, chosen or recorded, is slow here."""
        rates, chosen = start.rates, _chosen(start.given)
        if rates is None:
            return
        fast = start.run.figures(PRECISION, PrecisionFigures).precision
        if "auto" in chosen.values():
            _tell_slow("the run began with", fast, rates, "it is kept, so that the run ends with the same result")
        for key, precision in chosen.items():
            _tell_slow(f"{key}:", precision, rates, f"set {key}: auto, or leave it out, for the faster one")

    def cost(self, forecast: Forecast) -> None:
        """A few seconds."""


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


def rates(config: RunConfig, source: PolicySource) -> Rates | None:
    """The rates of the main process's processor; None if another device computes."""
    device: Any = PartialState().device
    if device.type != "cpu":
        return None
    shape = model_shape(source, config.policy.trust_remote_code)
    return distributed.broadcast(processor_rates(shape) if distributed.is_main() else None)


def _device_precision() -> str:
    """On a GPU, bfloat16 is never slower if the hardware supports it."""
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

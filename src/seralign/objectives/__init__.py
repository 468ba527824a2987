"""The objectives by name. Adding one is a file here, a line in ``OBJECTIVES`` and a name in the configuration."""

from __future__ import annotations

from collections.abc import Callable

from seralign.config import ObjectiveConfig
from seralign.errors import ConfigError
from seralign.objectives.base import LogProbs, Objective, ObjectiveOutput
from seralign.objectives.dpo import dpo
from seralign.objectives.ensemble import ensemble_margin
from seralign.objectives.ipo import ipo
from seralign.objectives.sft import sft
from seralign.objectives.simpo import simpo
from seralign.objectives.slic import slic

__all__ = [
    "OBJECTIVES",
    "LogProbs",
    "Objective",
    "ObjectiveOutput",
    "ensemble_margin",
    "get_objective",
    "objective_from",
]

OBJECTIVES: dict[str, Callable[[float, float], Objective]] = {
    "dpo": lambda beta, gamma: dpo(beta),
    "ipo": lambda beta, gamma: ipo(beta),
    "slic": lambda beta, gamma: slic(beta),
    "simpo": simpo,
    "sft": lambda beta, gamma: sft(),
}


def get_objective(name: str, beta: float, gamma: float) -> Objective:
    """The objective called ``name``, with the settings of those two that it has.

    Raises:
        ConfigError: there is no objective of that name.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"objective.name must be one of {', '.join(OBJECTIVES)}, got {name!r}")
    return OBJECTIVES[name](beta, gamma)


def objective_from(config: ObjectiveConfig) -> Objective:
    """The objective of a configuration, defaults filled in."""
    return get_objective(config.name, config.resolved_beta, config.resolved_gamma)

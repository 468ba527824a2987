"""Checks the keys of a study before anything is run. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seralign.errors import ConfigError
from seralign.studies.cell_config import cell_config, check_own_keys
from seralign.studies.cells import Cell, cell_of, may_stop, rounds_of
from seralign.studies.config import MethodConfig, StudyConfig, merged
from seralign.studies.grids import tried
from seralign.studies.reward_names import REWARD, with_reward_models


def check_study(study: StudyConfig) -> None:
    """Check all keys before anything is run: every world once, and every method in one world, with one value of its
    grids at a time.

    Raises:
        ConfigError: names world, method and key.
    """
    for world in study.worlds:
        cell = cell_of(study, world, study.seeds[0], {})
        _judge(cell.overrides, f"worlds.{world}")
        if cell.supervised is not None:
            _judge(cell.supervised.overrides, f"worlds.{world}, supervised")
        if study.reward is not None:
            named = cell_of(study, world, study.seeds[0], {"scoring.reward_models": [REWARD]})
            _judge(named.rewards[0].overrides, f"worlds.{world}, reward")
    for name, method in study.methods.items():
        world = (method.worlds or list(study.worlds))[0]
        # A method that trains nothing has no keys.
        for values in tried(method) if method.best_by == "implicit" else ():
            own = merged(method.set, values)
            cell = cell_of(study, world, study.seeds[0], own)
            models = [f"{REWARD}-{number}" for number in range(len(cell.rewards))]
            keys = with_reward_models(cell.overrides or {}, models) if models else cell.overrides
            _judge(keys, f"worlds.{world}, methods.{name}")
            check_own_keys(keys or {}, own, f"methods.{name}")
            _judge_until(method, cell, f"methods.{name}.until")


def _judge_until(method: MethodConfig, cell: Cell, key: str) -> None:
    assert cell.overrides is not None
    if method.until is None:
        return
    if rounds_of(cell) <= method.until:
        raise ConfigError(
            f"{key} is {method.until} and rounds is {rounds_of(cell)}: there is no later round to leave out"
        )
    if may_stop(cell):
        raise ConfigError(f"{key} is for runs that run all their rounds: leave it out, or set stop.metric: never")


def _judge(overrides: Mapping[str, Any] | None, where: str) -> None:
    try:
        config = cell_config(overrides or {}, Path("run"))
        if config.world is None or config.sft is not None:
            raise ConfigError("a cell has a world, and its supervised policy is the study's: leave sft out")
        if config.policy.merges:
            raise ConfigError(
                "policy.adapter with policy.lora: a study merges no adapter; merge it (seralign merge ADAPTER --out "
                "FOLDER) and give the folder as policy.model"
            )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None

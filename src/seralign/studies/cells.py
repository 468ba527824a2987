"""The plan of a study: settings to compare, cells to run. Imports no torch.

A *setting* is a method with one value of everything in its grid, one round, one number of draws. A *cell* is the run
that a setting needs in one world with one seed. Settings that need the same run share its cell, whichever methods
they are of: a cell is named by a digest of the keys of its run, so a study that grows keeps what it has.

    STUDY/study.json                       the configuration as it was last run
    STUDY/worlds/DIGEST/                   a world (world/) and its prompts as tokens (data/)
    STUDY/supervised/DIGEST/run/           a supervised policy
    STUDY/rewards/DIGEST/run/              a reward model
    STUDY/cells/WORLD/SEED/DIGEST/         cell.json, run/, figures.json, gold.parquet
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from seralign.config import RunConfig, StopConfig
from seralign.config.recipes import DEFAULT
from seralign.errors import ConfigError
from seralign.records import content_id
from seralign.runs import Run
from seralign.runs.layout import INITIAL, RESULT, round_name, round_of
from seralign.studies.cell_config import cell_config, check_own_keys
from seralign.studies.config import SUPERVISED, MethodConfig, StudyConfig, merged
from seralign.studies.grids import points, tried
from seralign.studies.reward_names import REWARD, names_reward

STUDY, ABOUT, FIGURES, GOLD, ERROR = "study.json", "cell.json", "figures.json", "gold.parquet", "error.txt"
RUN = "run"
# What a world and its prompts as tokens depend on.
_WORLD_KEYS = ("world", "data", "policy.model", "policy.revision", "policy.adapter", "policy.tokenizer",
               "policy.chat_template")  # fmt: skip
_DEFAULTS = {item.name: item.default for item in dataclasses.fields(RunConfig)}
_DEFAULT_METRIC = StopConfig().metric


@dataclass(frozen=True, order=True)
class Ask:
    """What is measured: a policy of the cell (``initial``, ``round-2``, ``result``). With more than one draw, it
    is the best of so many answers of the supervised policy, by the implicit reward of that policy."""

    policy: str
    draws: int = 1

    @property
    def key(self) -> str:
        """Its name in the figures."""
        return self.policy if self.draws == 1 else f"{self.policy}, best of {self.draws}"


@dataclass(frozen=True)
class Supervised:
    """The run that trains a supervised policy; or a reward model, ``of`` a supervised policy."""

    overrides: dict[str, Any]
    of: Supervised | None = None

    @cached_property
    def digest(self) -> str:
        """Its name: the same keys are the same policy, whichever world asks for it."""
        return content_id(self.overrides if self.of is None else [self.overrides, self.of.overrides])

    def folder(self, study: Path) -> Path:
        """Where it is."""
        return study / ("supervised" if self.of is None else "rewards") / self.digest

    def policy(self, study: Path) -> Path:
        """The folder of its weights."""
        return self.folder(study) / RUN / RESULT

    def is_trained(self, study: Path) -> bool:
        """Whether it is there."""
        return Run(self.folder(study) / RUN).exists(RESULT)


@dataclass(frozen=True)
class Cell:
    """One run in one world with one seed, and what is measured on it.

    ``overrides`` are all dotted keys of the run but its folder and, where ``supervised`` is given, the policy that it
    starts from; None for the supervised policy itself, which is only measured. ``exam`` are the keys that all methods
    of the world share: they say what is asked. ``methods`` are those that need the cell. ``reward`` is the reward model
    that its keys name, if they do.
    """

    world: str
    seed: int
    overrides: dict[str, Any] | None
    exam: dict[str, Any]
    supervised: Supervised | None
    temperatures: tuple[float, ...]
    asks: frozenset[Ask] = frozenset()
    methods: frozenset[str] = frozenset()
    reward: Supervised | None = None

    @cached_property
    def digest(self) -> str:
        """Its name: the keys that it follows from."""
        parts = [self.overrides, self.exam, self.supervised and self.supervised.overrides, self.temperatures]
        return content_id(parts if self.reward is None else [*parts, self.reward.overrides])

    def folder(self, study: Path) -> Path:
        """Where it is."""
        return study / "cells" / self.world / str(self.seed) / self.digest


@dataclass(frozen=True)
class Setting:
    """A setting: the values of a method, and what is measured on its cell in every seed.

    ``compared`` is false for rounds that are shown only: the first round of a method with several rounds, which is its
    objective alone, and rounds after ``until``.
    """

    method: str
    world: str
    values: dict[str, Any]
    ask: Ask
    compared: bool = True
    cells: dict[int, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Values, round and draws in words."""
        parts = [f"{key.rpartition('.')[2]} {value}" for key, value in self.values.items()]
        index = round_of(self.ask.policy)
        if index is not None and index > 1:
            parts.append(f"round {index}")
        if self.ask.draws > 1:
            parts.append(f"best of {self.ask.draws}")
        return ", ".join(parts) or "–"


def plan_study(study: StudyConfig) -> tuple[list[Cell], list[Setting]]:
    """All cells in the order in which they are run, seed by seed, and all settings."""
    cells: dict[str, Cell] = {}
    settings: dict[tuple[Any, ...], Setting] = {}
    for seed, world in itertools.product(study.seeds, study.worlds):
        for name, method in {SUPERVISED: MethodConfig(), **study.methods}.items():
            if method.worlds is not None and world not in method.worlds:
                continue
            for values in points(method):
                cell = _cell(study, world, seed, None if name == SUPERVISED else merged(method.set, values))
                known = cells.get(cell.digest, cell)
                for ask, compared in _asks(name, method, cell):
                    known = dataclasses.replace(known, asks=known.asks | {ask}, methods=known.methods | {name})
                    key = (name, world, content_id(values), ask)
                    setting = settings.setdefault(key, Setting(name, world, values, ask, compared))
                    setting.cells[seed] = cell.digest
                cells[cell.digest] = known
    return list(cells.values()), list(settings.values())


def is_finished(cell: Cell, study: Path) -> bool:
    """Whether everything that is asked of a cell has been measured."""
    try:
        figures = json.loads((cell.folder(study) / FIGURES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    return {ask.key for ask in cell.asks} <= figures["policies"].keys()


def errors_of(cell: Cell, study: Path) -> list[Path]:
    """The files that say what went wrong with a cell, or with the supervised policy that it needs."""
    needed = [part for part in (cell.supervised, cell.reward) if part is not None]
    folders = [cell.folder(study), *(part.folder(study) for part in needed)]
    return [folder / ERROR for folder in folders]


def is_over(cell: Cell, study: Path) -> bool:
    """Whether there is nothing left to do about a cell: finished, or failed."""
    return any(path.is_file() for path in errors_of(cell, study)) or is_finished(cell, study)


def world_digest(overrides: Mapping[str, Any]) -> str:
    """Name of the world that some keys describe."""
    return content_id({key: value for key, value in overrides.items() if _is_world(key)})


def check_study(study: StudyConfig) -> None:
    """Check all keys before anything is run: every world once, and every method in one world, with one value of its
    grids at a time.

    Raises:
        ConfigError: names world, method and key.
    """
    for world in study.worlds:
        cell = _cell(study, world, study.seeds[0], {})
        _judge(cell.overrides, f"worlds.{world}")
        if cell.supervised is not None:
            _judge(cell.supervised.overrides, f"worlds.{world}, supervised")
        if study.reward is not None:
            named = _cell(study, world, study.seeds[0], {"scoring.reward_models": [REWARD]})
            assert named.reward is not None
            _judge(named.reward.overrides, f"worlds.{world}, reward")
    for name, method in study.methods.items():
        world = (method.worlds or list(study.worlds))[0]
        for values in tried(method):
            own = merged(method.set, values)
            cell = _cell(study, world, study.seeds[0], own)
            _judge(cell.overrides, f"worlds.{world}, methods.{name}")
            check_own_keys(cell.overrides or {}, own, f"methods.{name}")
            _judge_until(method, cell, f"methods.{name}.until")


def _judge_until(method: MethodConfig, cell: Cell, key: str) -> None:
    assert cell.overrides is not None
    if method.until is None:
        return
    if _rounds(cell) <= method.until:
        raise ConfigError(
            f"{key} is {method.until} and rounds is {_rounds(cell)}: there is no later round to leave out"
        )
    if _may_stop(cell):
        raise ConfigError(f"{key} is for runs that run all their rounds: leave it out, or set stop.metric: never")


def _rounds(cell: Cell) -> int:
    assert cell.overrides is not None
    return int(cell.overrides.get("rounds", _DEFAULTS["rounds"]))


def _may_stop(cell: Cell) -> bool:
    """Whether its rounds may end before the last."""
    assert cell.overrides is not None
    return cell.overrides.get("stop.metric", _DEFAULT_METRIC) != "never"


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


def _cell(study: StudyConfig, world: str, seed: int, overlay: Mapping[str, Any] | None) -> Cell:
    seeds = {"seed": seed, "world.seed": seed}
    common = merged(study.base, study.worlds[world])
    # The study measures on prompts of its own: no run holds out pairs or answers prompts unless its keys say so.
    quiet = {"data.heldout_fraction": 0.0, "evaluation.prompts": 0, "evaluation.token_pairs": 0, "stop.metric": "never"}
    supervised = None
    if study.supervised is not None:
        alone = {"objective": {"name": "sft"}, "rounds": 1, "bootstrap": None}
        keys = merged(quiet, common, study.supervised, alone, seeds)
        supervised = Supervised({key: value for key, value in keys.items() if key.partition(".")[0] != "crossfit"})
    exam = merged(quiet, common, seeds)
    # The recipe is one of the keys that name a cell, because the default recipe may change.
    overrides = None if overlay is None else merged({"recipe": DEFAULT}, quiet, common, overlay, seeds)
    reward = None
    if study.reward is not None and overrides is not None and names_reward(overrides):
        keys = merged(quiet, common, {"rounds": 1, "bootstrap": None}, study.reward, seeds)
        alone = {key: value for key, value in keys.items() if key.partition(".")[0] != "crossfit"}
        reward = Supervised(alone, of=supervised)
    return Cell(world, seed, overrides, exam, supervised, tuple(study.temperatures), reward=reward)


def _asks(name: str, method: MethodConfig, cell: Cell) -> Iterator[tuple[Ask, bool]]:
    """What is measured on a cell for a method, and whether it competes."""
    if cell.overrides is None:
        yield Ask(INITIAL), True
        return
    rounds = _rounds(cell)
    stops = _may_stop(cell) and rounds > 1
    policies = [RESULT] if stops else [round_name(index) for index in range(1, rounds + 1)]
    late = set(policies[method.until :]) if method.until else set()
    for policy in policies:
        compared = rounds == 1 or policy not in {round_name(1)} | late
        if not method.best_of:
            yield Ask(policy), compared
        for draws in method.best_of if compared else ():
            yield Ask(policy, draws), True


def _is_world(key: str) -> bool:
    return any(key == part or key.startswith(f"{part}.") for part in _WORLD_KEYS)

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
from seralign.records import content_id
from seralign.runs import Run
from seralign.runs.layout import INITIAL, RESULT, round_name, round_of
from seralign.studies.config import SUPERVISED, MethodConfig, StudyConfig, merged
from seralign.studies.grids import points
from seralign.studies.reward_names import models_named

STUDY, ABOUT, FIGURES, GOLD, ERROR = "study.json", "cell.json", "figures.json", "gold.parquet", "error.txt"
RUN = "run"
# What a world and its prompts as tokens depend on. A world of one's own has answers that the policy sampled.
_WORLD_KEYS = ("world", "data", "policy.model", "policy.revision", "policy.adapter", "policy.tokenizer",
               "policy.chat_template", "policy.dtype", "policy.attention", "policy.trust_remote_code",
               "scoring.dtype")  # fmt: skip
_DEFAULTS = {item.name: item.default for item in dataclasses.fields(RunConfig)}
_DEFAULT_METRIC = StopConfig().metric
# Between the seeds of the reward models of a world.
_APART = 1000


@dataclass(frozen=True, order=True)
class Ask:
    """What is measured: a policy of the cell (``initial``, ``round-2``, ``result``). With more than one draw, it
    is the best of so many answers of the supervised policy, by the implicit reward of that policy, or by the reward
    model of a cell that trains no policy."""

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
    of the world share: they say what is asked. ``methods`` are those that need the cell. ``rewards`` are the reward
    models that its keys name; without keys, the one that chooses among answers of the supervised policy.
    """

    world: str
    seed: int
    overrides: dict[str, Any] | None
    exam: dict[str, Any]
    supervised: Supervised | None
    temperatures: tuple[float, ...]
    asks: frozenset[Ask] = frozenset()
    methods: frozenset[str] = frozenset()
    rewards: tuple[Supervised, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Its name: the keys that it follows from."""
        parts = [self.overrides, self.exam, self.supervised and self.supervised.overrides, self.temperatures]
        return content_id([*parts, *(model.overrides for model in self.rewards)])

    @property
    def needed(self) -> tuple[Supervised, ...]:
        """What is trained before it."""
        return self.rewards if self.supervised is None else (self.supervised, *self.rewards)

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
                trained = name != SUPERVISED and method.best_by == "implicit"
                overlay = merged(method.set, values) if trained else None
                cell = cell_of(study, world, seed, overlay, chosen=method.best_by == "reward_model")
                known = cells.get(cell.digest, cell)
                for ask, compared in _asks(method, cell):
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
    folders = [cell.folder(study), *(part.folder(study) for part in cell.needed)]
    return [folder / ERROR for folder in folders]


def is_over(cell: Cell, study: Path) -> bool:
    """Whether there is nothing left to do about a cell: finished, or failed."""
    return any(path.is_file() for path in errors_of(cell, study)) or is_finished(cell, study)


def world_digest(overrides: Mapping[str, Any]) -> str:
    """Name of the world that some keys describe."""
    return content_id({key: value for key, value in overrides.items() if _is_world(key)})


def cell_of(study: StudyConfig, world: str, seed: int, overlay: Mapping[str, Any] | None, chosen: bool = False) -> Cell:
    """The cell of some keys laid over those of the study.

    Args:
        study: The study.
        world: Name of the world.
        seed: Of world and run.
        overlay: Keys of a method; None for the supervised policy, which is only measured.
        chosen: Whether a reward model chooses among the answers of the supervised policy.
    """
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
    rewards: tuple[Supervised, ...] = ()
    if study.reward is not None:
        keys = merged(quiet, common, {"rounds": 1, "bootstrap": None}, study.reward, seeds)
        alone = {key: value for key, value in keys.items() if key.partition(".")[0] != "crossfit"}
        count = max(models_named(overrides or {}, study.reward_models), int(chosen))
        rewards = tuple(Supervised(alone | {"seed": seed + _APART * n}, of=supervised) for n in range(count))
    return Cell(world, seed, overrides, exam, supervised, tuple(study.temperatures), rewards=rewards)


def rounds_of(cell: Cell) -> int:
    """The rounds of its run."""
    assert cell.overrides is not None
    return int(cell.overrides.get("rounds", _DEFAULTS["rounds"]))


def may_stop(cell: Cell) -> bool:
    """Whether its rounds may end before the last."""
    assert cell.overrides is not None
    return cell.overrides.get("stop.metric", _DEFAULT_METRIC) != "never"


def _asks(method: MethodConfig, cell: Cell) -> Iterator[tuple[Ask, bool]]:
    """What is measured on a cell for a method, and whether it competes."""
    if cell.overrides is None:
        for draws in method.best_of or [1]:
            yield Ask(INITIAL, draws), True
        return
    rounds = rounds_of(cell)
    stops = may_stop(cell) and rounds > 1
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

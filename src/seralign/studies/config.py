"""The configuration of a study: which worlds, seeds, methods and settings. Imports no torch.

A method is a configuration of seralign: dotted keys of ``seralign.config.RunConfig`` that override those of the study.
Nothing is implemented a second time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seralign.checks import positive, require
from seralign.config.sections import check_known
from seralign.config.yaml12 import read_yaml
from seralign.errors import ConfigError

SUPERVISED = "supervised"
_OVERLAYS = {"set", "grid"}


@dataclass(frozen=True)
class MethodConfig:
    """One method.

    Args:
        set: Keys of a run. They override ``base`` and the keys of the world.
        grid: Mapping from a key of a run to the values to try; all combinations are settings. A list of such mappings
            is the settings of each of them, for a grid that is not rectangular. The best setting on validation prompts
            is reported. Every round after the first is a setting too.
        best_of: Numbers N to try. The answer is the best of N answers of the supervised policy, in place of an answer
            of the trained policy.
        best_by: What chooses: the ``implicit`` reward of the trained policy; or ``reward_model``, that of the study
            (``reward``), and then no policy is trained, and there is neither ``set`` nor ``grid``.
        worlds: Names of the worlds to run the method in. Default: all worlds.
        until: The last round that is compared. Later rounds are measured and shown, but not compared, because they had
            more steps.
    """

    set: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] | list[dict[str, list[Any]]] = field(default_factory=dict)
    best_of: list[int] = field(default_factory=list)
    best_by: Literal["implicit", "reward_model"] = "implicit"
    worlds: list[str] | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        require(bool(self.grids), "grid", "a mapping from keys to values to try, or a list of such mappings", self.grid)
        for key, values in ((key, values) for grid in self.grids for key, values in grid.items()):
            require(isinstance(values, list) and len(values) > 0, f"grid.{key}", "a list of values to try", values)
        valid = isinstance(self.best_of, list) and all(isinstance(n, int) and n > 1 for n in self.best_of)
        require(valid, "best_of", "a list of whole numbers above 1", self.best_of)
        require(self.best_by in ("implicit", "reward_model"), "best_by", "implicit or reward_model", self.best_by)
        if self.best_by == "reward_model":
            require(bool(self.best_of), "best_of", "given with best_by: reward_model, the numbers N to try", [])
            for key, value in (("set", self.set), ("grid", self.grid)):
                require(not value, key, "left out with best_by: reward_model, which trains no policy", value)
        whole = isinstance(self.until, int) and self.until > 1
        require(self.until is None or whole, "until", "the number of a round above 1", self.until)
        require(self.until is None or not self.best_of, "until", "left out where best_of is given", self.until)

    @property
    def grids(self) -> list[dict[str, list[Any]]]:
        """``grid`` as a list."""
        return self.grid if isinstance(self.grid, list) else [self.grid]


@dataclass(frozen=True)
class StudyConfig:
    """A study: every method with every setting of its grid, in every world, for every seed.

    Args:
        out: The folder of the study.
        worlds: Mapping from a name to keys of a run, mostly ``world.…``.
        methods: Mapping from a name to a method. ``supervised`` is always included.
        seeds: Seeds of the world and of the run.
        base: Keys of a run, for all methods.
        supervised: Keys of the run that trains the supervised policy. All methods start from this policy and are
            compared with it. Default: ``policy.model`` is the supervised policy.
        reward: Keys of the run that trains a reward model on the pairs of each world, from its supervised policy. A
            method names it ``reward_model:study`` (``rlhf.reward``, ``rlhf.track``) or ``study``
            (``scoring.reward_models``).
        reward_models: Number of reward models of each world, which differ in their seeds. ``study`` in
            ``scoring.reward_models`` is all of them, ``reward_model:study`` the first.
        baseline: The method that the others are compared with.
        ceiling: The method that is the upper bound, trained on labels without noise.
        temperatures: Sampling temperatures of the answers; the first is 1, where KL is measured.
        keep: Keep the folder of every run, not only its figures.
    """

    out: str
    worlds: dict[str, dict[str, Any]]
    methods: dict[str, MethodConfig]
    seeds: list[int]
    base: dict[str, Any] = field(default_factory=dict)
    supervised: dict[str, Any] | None = None
    reward: dict[str, Any] | None = None
    reward_models: int = 1
    baseline: str = "dpo"
    ceiling: str | None = None
    temperatures: list[float] = field(default_factory=lambda: [1.0, 0.2])
    keep: bool = False

    def __post_init__(self) -> None:
        require(bool(self.out), "out", "the path of the study's folder", self.out)
        require(len(self.worlds) > 0, "worlds", "at least one world", self.worlds)
        valid = isinstance(self.seeds, list) and all(isinstance(seed, int) and seed >= 0 for seed in self.seeds)
        valid = valid and 0 < len(self.seeds) == len(set(self.seeds))
        require(valid, "seeds", "a list of different whole numbers", self.seeds)
        valid = isinstance(self.temperatures, list) and all(isinstance(each, float) for each in self.temperatures)
        valid = valid and self.temperatures[:1] == [1.0] and len(set(self.temperatures)) == len(self.temperatures)
        require(valid, "temperatures", "a list of different numbers that begins with 1.0", self.temperatures)
        for temperature in self.temperatures:
            positive(temperature, "temperatures")
        for key in ("worlds", "methods"):
            for name in getattr(self, key):
                valid = isinstance(name, str) and not {".", "/"} & set(name)
                require(
                    valid,
                    key,
                    "names without dots and slashes, in quotes where YAML reads them as no text (off, on, yes, no, 1)",
                    name,
                )
        require(SUPERVISED not in self.methods, "methods", f"without {SUPERVISED}, which is always there", SUPERVISED)
        for key in ("baseline", "ceiling"):
            name = getattr(self, key)
            if name is not None:
                require(name in self.methods, key, f"one of the methods, {', '.join(self.methods)}", name)
        require(self.reward is None or self.supervised is not None, "reward", "left out without supervised", "keys")
        whole = isinstance(self.reward_models, int) and self.reward_models > 0
        require(whole, "reward_models", "a whole number above 0", self.reward_models)
        for name, method in self.methods.items():
            chosen = method.best_by == "reward_model" and self.reward is None
            require(
                not chosen, f"methods.{name}.best_by", "implicit in a study without a section reward", "reward_model"
            )
        overlays = {"base": self.base, "supervised": self.supervised or {}, "reward": self.reward or {}}
        overlays |= {f"worlds.{name}": keys for name, keys in self.worlds.items()}
        for name, method in self.methods.items():
            overlays |= {f"methods.{name}": {key: None for keys in (method.set, *method.grids) for key in keys}}
        for place, keys in overlays.items():
            own = [key for key in ("seed", "world.seed") if key in keys]
            require(not own, place, "left without seeds, which are the study's (seeds)", own)
        for name, method in self.methods.items():
            for world in method.worlds or []:
                require(world in self.worlds, f"methods.{name}.worlds", f"among {', '.join(self.worlds)}", world)
        compared = self.methods[self.baseline].worlds
        left_out = [world for world in self.worlds if compared is not None and world not in compared]
        require(not left_out, f"methods.{self.baseline}.worlds", "all worlds, as it is the baseline", compared)


def load_study(path: str | Path, overrides: Mapping[str, Any] | None = None) -> StudyConfig:
    """A study from a YAML file and overrides.

    Args:
        path: YAML file; every key is a field of ``StudyConfig``.
        overrides: Dotted path to value, e.g. ``{"seeds": [0], "base.training.max_steps": 20,
            "methods.dpo.grid.objective.beta": [0.1]}``; they win over the file.

    Raises:
        ConfigError: the file cannot be read, or a key or value cannot be honoured; names file and key.
    """
    try:
        values = _flat(read_yaml(Path(path)))
        for key, value in (overrides or {}).items():
            values = _laid(values, _flat(_nested(key, value)))
        return study_from(values)
    except ConfigError as error:
        raise error if str(error).startswith(str(path)) else ConfigError(f"{path}: {error}") from None


def study_from(values: Mapping[str, Any]) -> StudyConfig:
    """A study from nested values, as ``to_dict`` gives them."""
    values = dict(values)
    _known(StudyConfig, values, "")
    methods = values.get("methods") or {}
    for name, method in methods.items():
        _known(MethodConfig, method, f"methods.{name}.")
    missing = [key for key in ("out", "worlds", "methods", "seeds") if key not in values]
    if missing:
        raise ConfigError(f"{missing[0]} is missing")
    values["methods"] = {name: _method(name, method) for name, method in methods.items()}
    values["base"] = values.get("base") or {}
    if isinstance(given := values.get("temperatures"), list):
        # A cell is named by its keys, and 1 and 1.0 would be two names.
        values["temperatures"] = [float(each) if type(each) is int else each for each in given]
    return StudyConfig(**values)


def to_dict(study: StudyConfig) -> dict[str, Any]:
    """The study as plain values; ``study_from`` makes it again."""
    return dataclasses.asdict(study)


def merged(*overlays: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys laid over each other, the last one on top; a key also takes the place of the keys below it."""
    values: dict[str, Any] = {}
    for overlay in overlays:
        for key, value in overlay.items():
            for covered in [old for old in values if old == key or old.startswith(f"{key}.")]:
                del values[covered]
            values[key] = value
    return values


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as dotted keys; an empty mapping stays a value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= dotted(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = {} if isinstance(value, Mapping) else value
    return found


def _method(name: str, values: dict[str, Any]) -> MethodConfig:
    try:
        return MethodConfig(**values)
    except ConfigError as error:
        raise ConfigError(f"methods.{name}.{error}") from None


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """A file's values with every overlay as dotted keys, however it was nested."""
    flat = dict(values)
    for key in ("base", "supervised", "reward"):
        if flat.get(key) is not None:
            flat[key] = dotted(_mapping(flat[key], key))
    for key in ("worlds", "methods"):
        if key in flat:
            parts = _mapping(flat[key], key)
            flat[key] = {name: _mapping(part or {}, f"{key}.{name}") for name, part in parts.items()}
    if "worlds" in flat:
        flat["worlds"] = {name: dotted(part) for name, part in flat["worlds"].items()}
    for name, method in flat.get("methods", {}).items():
        overlays = {key: _dotted_overlay(method[key], f"methods.{name}.{key}") for key in _OVERLAYS & method.keys()}
        flat["methods"][name] = method | overlays
    return flat


def _laid(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Flat values with others laid over them."""
    laid = values | over
    for key in {"base", "supervised", "reward"} & over.keys():
        laid[key] = None if over[key] is None else merged(values.get(key) or {}, over[key])
    if "worlds" in over:
        old = values.get("worlds", {})
        laid["worlds"] = old | {name: merged(old.get(name, {}), part) for name, part in over["worlds"].items()}
    if "methods" in over:
        laid["methods"] = dict(values.get("methods", {}))
        for name, part in over["methods"].items():
            old = laid["methods"].get(name, {})
            overlays = {
                key: _merged_overlay(old.get(key, {}), part[key], f"methods.{name}.{key}")
                for key in _OVERLAYS & part.keys()
            }
            laid["methods"][name] = old | part | overlays
    return laid


def _dotted_overlay(value: Any, key: str) -> dict[str, Any] | list[dict[str, Any]]:
    """``set``, or ``grid``, which may be a list."""
    if key.endswith(".grid") and isinstance(value, list):
        return [dotted(_mapping(grid, f"{key}[{place}]")) for place, grid in enumerate(value)]
    return dotted(_mapping(value, key))


def _merged_overlay(old: Any, over: Any, key: str) -> dict[str, Any] | list[dict[str, Any]]:
    if isinstance(over, list):
        return over
    if isinstance(old, list):
        raise ConfigError(f"{key} is a list of grids in the file: give the whole list, not one of its keys")
    return merged(old, over)


def _nested(path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    nested = {last: value}
    for parent in reversed(parents):
        nested = {parent: nested}
    return nested


def _mapping(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{key}: expected a section with keys and values, got {value!r}")
    return value


def _known(kind: type, values: Mapping[str, Any], prefix: str) -> None:
    check_known([item.name for item in dataclasses.fields(kind)], values, prefix)

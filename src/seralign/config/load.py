"""Read a configuration: a YAML file, then dotted overrides. Unknown keys are refused."""

from __future__ import annotations

import argparse
import copy
import dataclasses
from pathlib import Path
from typing import Any

import yaml

from seralign.config.fields import is_inline
from seralign.config.flags import CONFIG, PRINT, read_flags, unknown_argument
from seralign.config.nesting import nested
from seralign.config.objective import plain, read_objective
from seralign.config.paths import expanded
from seralign.config.recipes import with_recipe
from seralign.config.run import RunConfig
from seralign.config.values import build
from seralign.config.yaml12 import read_yaml
from seralign.errors import ConfigError
from seralign.objectives import ObjectiveSum


def load_config(path: str | Path | None = None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """Read the configuration of a run from a YAML file and overrides.

    Args:
        path: YAML file, its keys nested or dotted. Each key is a field of ``RunConfig``, or ``recipe``, the name of one
            of ``seralign.config.recipes.RECIPES``.
        overrides: Mapping from dotted keys to values, e.g. ``{"objective.name": "ipo", "rounds": 2}``. They override
            the file.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is not allowed; names the key.
    """
    values = {} if path is None else _read(path)
    for key, value in (overrides or {}).items():
        _assign(values, str(key), copy.deepcopy(value))
    return _built(values, path)


def parse_config(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[RunConfig, dict[str, Any]]:
    """Read the configuration of a run from a command line: an optional YAML file, then flags.

    Args:
        parser: From ``config_parser``.
        arguments: ``[run.yaml] [--key value ...]``.

    Returns:
        The configuration, and the values of the arguments that the command added to the parser.

    Raises:
        ConfigError: see ``load_config``.
        SystemExit: ``--print_config`` was given, and the configuration has been printed.
    """
    if arguments and not arguments[0].startswith("-"):
        arguments = [f"--{CONFIG}={arguments[0]}", *arguments[1:]]
    flags, others = read_flags(arguments)
    given, unknown = parser.parse_known_args(others)
    if unknown:
        raise ConfigError(unknown_argument(unknown[0], parser))
    paths = [value for key, value in flags if key == CONFIG]
    if len(paths) > 1:
        raise ConfigError(f"only one configuration file can be given, got {', '.join(paths)}")
    values = _read(paths[0]) if paths else {}
    for key, value in flags:
        if key != CONFIG:
            _assign(values, key, value)
    config = _built(values, paths[0] if paths else None)
    extra = vars(given)
    if extra.pop(PRINT, False):
        print(to_yaml(config), end="")
        raise SystemExit(0)
    return config, extra


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as nested plain values, with all defaults."""
    return plain_values(config)


def plain_values(value: Any) -> Any:
    """A part of a configuration as plain values, with the keys of the YAML file."""
    if isinstance(value, ObjectiveSum):
        return plain(value)
    if isinstance(value, dict):
        return {name: plain_values(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain_values(part) for part in value]
    if not dataclasses.is_dataclass(value):
        return value
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        part = plain_values(getattr(value, field.name))
        found |= part if is_inline(field) else {field.name: part}
    return found


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML, with all defaults. ``load_config`` reads it back as an equal configuration."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


# Keys with a local path, in which ~ is the home folder. The data readers expand their own paths.
_PATHS = (
    "out", "policy.model", "policy.tokenizer", "policy.chat_template", "policy.adapter", "reference.model",
    "reference.adapter", "scoring.cache",
)  # fmt: skip


def _read(path: str | Path) -> dict[str, Any]:
    values = read_yaml(Path(path))
    try:
        return nested(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _built(values: dict[str, Any], path: str | Path | None) -> RunConfig:
    try:
        values = with_recipe(values)
        for key in _PATHS:
            section, _, name = key.rpartition(".")
            place = values.get(section) if section else values
            if isinstance(place, dict) and isinstance(given := place.get(name), str) and given.startswith("~"):
                place[name] = expanded(given)
        if "objective" in values:
            values = values | {"objective": read_objective(values["objective"])}
        return build(RunConfig, values)
    except ConfigError as error:
        raise error if path is None else ConfigError(f"{path}: {error}") from None
    except RecursionError:
        raise ConfigError("the values are nested too deeply for a configuration") from None


def _assign(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        child = values.get(parent)
        if isinstance(child, list):
            raise ConfigError(f"{dotted}: {parent} is a list in the file; change it there")
        if not isinstance(child, dict):
            child = values[parent] = {}
        values = child
    values[last] = value

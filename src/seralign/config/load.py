"""Reading a configuration: YAML, then dotted overrides, unknown keys refused."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from seralign.config.recipes import DEFAULT, RecipeName, with_recipe
from seralign.config.run import RunConfig
from seralign.errors import ConfigError


def config_parser(**kwargs: Any) -> ArgumentParser:
    """A parser with every option of a run as a dotted flag (``--policy.model``, ``--objective.name`` ...)."""
    parser = ArgumentParser(default_env=False, exit_on_error=False, allow_abbrev=False, print_config=None, **kwargs)
    parser.add_argument("--config", action="config", help="YAML file of options; flags win over it")
    parser.add_argument(
        "--recipe", type=RecipeName, default=DEFAULT, help="Defaults of some keys, under one name: sera is the paper's"
    )
    parser.add_argument("--print_config", action="store_true", help="Print every key with its value, and do nothing")
    parser.add_class_arguments(RunConfig, as_group=True)
    return parser


def load_config(path: str | Path | None = None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """A run's configuration from a YAML file and overrides.

    Args:
        path: YAML file; every key is a field of :class:`RunConfig`, or ``recipe``, a name of
            :data:`seralign.config.recipes.RECIPES`.
        overrides: Dotted key to value, e.g. ``{"objective.name": "ipo", "rounds": 2}``; they win over the file.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value cannot be honoured; names the key.
    """
    values = {} if path is None else read_yaml(Path(path))
    for key, value in (overrides or {}).items():
        _assign(values, key, copy.deepcopy(value))
    where = "" if path is None else f"{path}: "
    parser = config_parser(prog="seralign")
    with _explained(parser, where):
        values = with_recipe(values)
        _check_keys(RunConfig, values, "")
        return _build(parser.parse_object(values))


def parse_config(parser: ArgumentParser, arguments: list[str]) -> tuple[RunConfig, dict[str, Any]]:
    """A run's configuration from a command line: an optional YAML file first, then flags.

    Args:
        parser: From :func:`config_parser`.
        arguments: ``[run.yaml] [--key value ...]``.

    Returns:
        The configuration, and the values of arguments that the command added to the parser.

    Raises:
        ConfigError: as :func:`load_config`.
        SystemExit: the configuration was to be printed, and was.
    """
    with _explained(parser, ""):
        if arguments and not arguments[0].startswith("-"):
            path, *rest = arguments
            try:
                _check_keys(RunConfig, with_recipe(read_yaml(Path(path))), "")
            except ConfigError as error:
                raise error if str(error).startswith(path) else ConfigError(f"{path}: {error}") from None
            arguments = ["--config", path, *rest]
        given = parser.parse_args(arguments, defaults=False).as_dict()
        given.pop("config", None)
        namespace = parser.parse_object(with_recipe(given))
        config = _build(namespace)
    if given.get("print_config"):
        print(to_yaml(config), end="")
        raise SystemExit(0)
    known = {field.name for field in dataclasses.fields(RunConfig)} | {"config", "recipe", "print_config"}
    return config, {key: value for key, value in namespace.as_dict().items() if key not in known}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a nested dict."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values, found {type(values).__name__}")
    return values


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as nested plain values, every default written out."""
    return dataclasses.asdict(config)


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML, every default written out; :func:`load_config` reads it back equal."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def one_line(error: Exception) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())


def _build(namespace: Namespace) -> RunConfig:
    values = namespace.as_dict()
    return _construct(RunConfig, {field.name: values[field.name] for field in dataclasses.fields(RunConfig)}, "")


def _construct(kind: type, values: dict[str, Any], prefix: str) -> Any:
    """A dataclass from nested values; an error of its own checks is prefixed with the path of the key."""
    nested = _nested(kind)
    arguments = {
        key: _construct(nested[key], value, f"{prefix}{key}.") if key in nested and isinstance(value, dict) else value
        for key, value in values.items()
    }
    try:
        return kind(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from None


def _check_keys(kind: type, values: dict[str, Any], prefix: str) -> None:
    known = [field.name for field in dataclasses.fields(kind)]
    nested, hints = _nested(kind), typing.get_type_hints(kind)
    optional = [key for key, hint in hints.items() if type(None) in typing.get_args(hint)]
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"known here: {', '.join(known)}"
            raise ConfigError(f"{prefix}{key}: unknown key; {hint}")
        if key in nested and isinstance(value, dict):
            _check_keys(nested[key], value, f"{prefix}{key}.")
        elif key in nested and (value is not None or key not in optional):
            raise ConfigError(f"{prefix}{key}: expected keys and values below it, got {value!r}")


def _nested(kind: type) -> dict[str, type]:
    """The fields that are dataclasses themselves, perhaps optional ones."""
    return {
        key: part
        for key, hint in typing.get_type_hints(kind).items()
        for part in (hint, *typing.get_args(hint))
        if isinstance(part, type) and dataclasses.is_dataclass(part)
    }


@contextlib.contextmanager
def _explained(parser: ArgumentParser, where: str) -> Iterator[None]:
    try:
        yield
    except ArgumentError as error:
        raise ConfigError(f"{where}{_explain(error, parser)}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None


def _explain(error: Exception, parser: ArgumentParser) -> str:
    """The parser's complaint in our words: the key first, then what would be right."""
    message = one_line(error)
    pattern = r"does not accept option '(.+?)'|Option '(.+?)' is not accepted|unrecognized arguments: -*([^\s=]+)"
    if match := re.search(pattern, message):
        key = match[1] or match[2] or match[3]
        group = re.search(r"Group '(.+?)'", message)
        key = f"{group[1]}.{key}" if group else key
        close = difflib.get_close_matches(key, [action.dest for action in parser._actions], n=1)
        return f"{key}: unknown key" + (f"; did you mean {close[0]}?" if close else "; --help lists the options")
    if match := re.search(r'Parser key "(.+?)": (.*)', message):
        reason = re.sub(r".*?Errors: - (.*?)(?: - Expected a <class 'NoneType'>.*)$", r"\1", match[2])
        key = match[1]
        if inner := re.search(r'Parser key "(.+?)": (.*)', reason):
            key, reason = f"{key}.{inner[1]}", inner[2]
        return f"{key}: {reason.replace('a typing.Literal', 'one of ')}"
    return message


def _assign(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        child = values.get(parent)
        if not isinstance(child, dict):
            child = values[parent] = {}
        values = child
    values[last] = value

"""Files with the configuration of something other than a run: their flags and their keys. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from seralign.config.fields import keys_below
from seralign.config.yaml12 import parse_yaml, read_yaml
from seralign.errors import ConfigError

Config = TypeVar("Config")


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """``--key value`` or ``--key=value`` arguments, the values read as YAML.

    Raises:
        ConfigError: An argument is no option, or has no value.
    """
    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise ConfigError(f"{option}: expected an option, --key value")
        key, equals, value = option[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"{key}: the value is missing")
            value = rest.pop(0)
        found[key] = parse_yaml(value, key)
    return found


def load_sections(
    path: str | Path,
    overrides: Mapping[str, Any] | None,
    sections: Collection[str],
    make: Callable[[dict[str, Any]], Config],
) -> Config:
    """Read a configuration from a YAML file and overrides.

    Args:
        path: The file.
        overrides: Keys of the top level and of ``sections``, with dots, to values; they override the file.
        sections: The sections whose keys may be overridden.
        make: Makes the configuration of nested plain values.

    Raises:
        ConfigError: The file cannot be read, or an override or ``make`` refuses a value; names the file and the key.
    """
    values = read_yaml(Path(path))
    try:
        for key, value in (overrides or {}).items():
            override(values, key, value, sections)
        return make(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def override(values: dict[str, Any], key: str, value: Any, sections: Collection[str]) -> None:
    """Set a key of the top level, or of one of the sections, in the values of a file.

    Raises:
        ConfigError: The key is elsewhere, or the file has a value in place of its section.
    """
    section, dot, name = key.rpartition(".")
    if not dot:
        values[key] = value
        return
    if section not in sections:
        raise ConfigError(f"{key}: only keys of the top level and of {', '.join(sections)} are flags")
    given = values.get(section)
    if given is not None and not isinstance(given, dict):
        raise ConfigError(f"{key}: {section} is not a section in the file; change it there")
    values[section] = {**(given or {}), name: value}


def check_known(known: Collection[str], keys: Iterable[Any], prefix: str = "") -> None:
    """Refuse unknown keys.

    Args:
        known: The keys of a section.
        keys: Those that a file has.
        prefix: The key of the section with a dot behind it; empty at the top level.

    Raises:
        ConfigError: A key is unknown; names a similar one, or all.
    """
    for key in keys:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"known here: {', '.join(known) or 'none'}"
            raise ConfigError(f"{prefix}{key}: unknown key; {hint}")


def check_section(kind: type, values: Any, key: str) -> None:
    """Refuse unknown keys of a section, if it is one: other values are refused where the configuration is built.

    Args:
        kind: The dataclass of the section.
        values: What a file has in its place.
        key: The key of the section.

    Raises:
        ConfigError: See ``check_known``.
    """
    if isinstance(values, dict):
        check_known(list(keys_below(kind)), values, f"{key}.")

"""Files with the configuration of something other than a run: their flags and their keys. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

from seralign.config.yaml12 import parse_yaml
from seralign.errors import ConfigError


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

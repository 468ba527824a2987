"""Keys with dots in a file: ``objective.beta: 0.1`` is ``objective: {beta: 0.1}``."""

from __future__ import annotations

from typing import Any

from seralign.config.fields import all_keys, dataclass_of, value_of
from seralign.config.run import RunConfig
from seralign.errors import ConfigError


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a file with every key nested, at the top and in any section.

    Below a mapping with names chosen by the user, such as ``data.roles``, a dot is part of the name.

    Raises:
        ConfigError: a key is given twice, or below a section that is null or a list; names the key.
    """
    return _nested(values, "")


def _nested(values: dict[str, Any], section: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        first, dot, rest = name.partition(".") if isinstance(name, str) else (name, "", "")
        if dot and _is_divided(_below(section, first)):
            name, value = first, {rest: value}
        found[name] = _together(found[name], value, _below(section, name)) if name in found else value
    keys = {name: _below(section, name) for name in found}
    # What came together may have dots of its own.
    return {
        name: _nested(value, keys[name]) if isinstance(value, dict) and _is_section(keys[name]) else value
        for name, value in found.items()
    }


def _together(one: Any, other: Any, key: str) -> Any:
    """Two values that a file gives for a key, or for what is below it."""
    if isinstance(one, dict) and isinstance(other, dict):
        both = {name: _together(one[name], other[name], _below(key, name)) for name in one.keys() & other.keys()}
        return one | other | both
    below = next((value for value in (one, other) if isinstance(value, dict) and value), None)
    if below is None:
        raise ConfigError(f"{key} is given twice")
    whole = other if below is one else one
    kind = "null" if whole is None else "a list" if isinstance(whole, list) else "a value"
    raise ConfigError(f"{_below(key, next(iter(below)))}: {key} is {kind} in the same file; change it there")


def _below(section: str, name: Any) -> str:
    return f"{section}.{name}".lstrip(".")


def _is_section(key: str) -> bool:
    keys = all_keys(RunConfig)
    return key in keys and dataclass_of(keys[key]) is not None


def _is_divided(key: str) -> bool:
    """Whether keys stand below this one."""
    keys = all_keys(RunConfig)
    return key in keys and (dataclass_of(keys[key]) is not None or value_of(keys[key]) is not None)

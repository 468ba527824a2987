"""Checks that values have the types of the dataclasses; every message begins with the whole key."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

from seralign.config.fields import alternatives, dataclass_of, is_inline, keys_below, type_hints
from seralign.config.hints import unknown_key, unknown_option
from seralign.errors import ConfigError

# Larger counts, lengths and seeds do not fit the integers of some library.
MAX_INTEGER = 2**31 - 1
# Within these bounds, a number and its inverse stay finite and nonzero in float32, also multiplied with any logit.
MAX_NUMBER, MIN_NUMBER = 1e30, 1e-30
_MAY_BE_EMPTY = {"data.system"}


def build(kind: type, values: Any, key: str = "", base: Any = None) -> Any:
    """A dataclass from nested plain values.

    Args:
        kind: The dataclass; its fields may be dataclasses themselves.
        values: Keys to values.
        key: The whole key of the section; empty for the top level.
        base: An instance that supplies missing values, in place of the defaults of ``kind``.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type or is not allowed; names the whole key.
    """
    if not isinstance(values, dict):
        first = f"; did you mean {key}.{dataclasses.fields(kind)[0].name}?" if isinstance(values, str) else ""
        raise ConfigError(f"{key}: expected a section with keys and values, got {shown(values)}{first}")
    prefix = f"{key}." if key else ""
    hints, fields = type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    arguments = {}
    for name, field in fields.items():
        if is_inline(field):
            own = {key: values[key] for key in keys_below(hints[name]) if key in values}
            values = {key: value for key, value in values.items() if key not in own}
            default = getattr(base, name) if base is not None else _default(field)
            arguments[name] = build(hints[name], own, key, default)
    for name, value in values.items():
        if name not in fields or is_inline(fields[name]):
            whole = f"{prefix}{name}{_first_below(value)}"
            raise ConfigError(unknown_option(whole, key, fields) or unknown_key(whole))
        part = dataclass_of(hints[name])
        if part is not None and isinstance(value, part):
            arguments[name] = value
        elif part is None or (value is None and type(None) in alternatives(hints[name])):
            arguments[name] = typed(hints[name], value, f"{prefix}{name}")
        else:
            default = getattr(base, name) if base is not None else _default(fields[name])
            arguments[name] = build(part, value, f"{prefix}{name}", default)
    if base is None:
        missing = [name for name, field in fields.items() if name not in arguments and not _has_default(field)]
        if missing:
            raise ConfigError(f"{prefix}{missing[0]} is missing")
    try:
        return kind(**arguments) if base is None else dataclasses.replace(base, **arguments)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from None


def typed(hint: Any, value: Any, key: str) -> Any:
    """The value, if it has the type; integers become floats where the type is float.

    Raises:
        ConfigError: it has another type; names the key.
    """
    kinds = alternatives(hint)
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        origin, parts = typing.get_origin(kind), typing.get_args(kind)
        if dataclasses.is_dataclass(kind) and isinstance(value, kind):  # pyright: ignore
            return value
        if origin is list and isinstance(value, list | tuple):
            return [typed(parts[0], part, f"{key}[{place}]") for place, part in enumerate(value)]
        if origin is dict and isinstance(value, dict):
            _check_names(value, key)
            return {name: typed(parts[1], part, f"{key}.{name}") for name, part in value.items()}
        if origin is typing.Literal and isinstance(value, str) and value in parts:
            return value
        if kind is Any:
            return _plain(value, key)
        if kind is str and isinstance(value, str):
            if not value and key not in _MAY_BE_EMPTY:
                raise ConfigError(f"{key} must not be empty" + "; leave it out" * (type(None) in kinds))
            return _text(value, key)
        if kind is bool and isinstance(value, bool):
            return value
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            return _whole(value, key)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return _number(value, key)
    rule = " or ".join(_called(kind) for kind in kinds)
    quoted = isinstance(value, str) and bool({int, float, bool} & set(kinds)) and _reads_as_number(value)
    raise ConfigError(f"{key} must be {rule}, got {shown(value)}{'; remove the quotes' if quoted else ''}")


def shown(value: Any) -> str:
    """A value as it is written in a file, shortened if it is long."""
    text = {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))
    return text if len(text) <= 100 else f"{text[:100]}…"


def _first_below(value: Any) -> str:
    """The first key below an unknown key, which helps to find where it belongs."""
    return f".{next(iter(value))}" if isinstance(value, dict) and value else ""


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def _called(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"one of {', '.join(parts)}"
    if origin is list:
        if typing.get_origin(parts[0]) is dict:
            return "a list of sections"
        return f"a list of {_called(parts[0]).removeprefix('a ')}{'s' * (parts[0] is not str)}"
    if origin is dict:
        return "keys and values"
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}[kind]


def _whole(value: int, key: str) -> int:
    if abs(value) > MAX_INTEGER:
        raise ConfigError(f"{key} must be a whole number of at most {MAX_INTEGER}, got {shown(value)}")
    return value


def _number(value: float, key: str) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key} must be a finite number, got {shown(value)}")
    if value and not MIN_NUMBER <= abs(value) <= MAX_NUMBER:
        raise ConfigError(f"{key} must be a number between {MIN_NUMBER} and {MAX_NUMBER} in size, got {shown(value)}")
    return float(value)


def _text(value: str, key: str) -> str:
    if "\0" in value or (not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)):
        raise ConfigError(f"{key} must be text in UTF-8 without null characters, got {shown(value)}")
    return value


def _plain(value: Any, key: str) -> Any:
    """Values of settings that are passed to other libraries; they are stored as JSON."""
    if isinstance(value, dict):
        _check_names(value, key)
        return {name: _plain(part, f"{key}.{name}") for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, f"{key}[{place}]") for place, part in enumerate(value)]
    if isinstance(value, str):
        return _text(value, key)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _whole(value, key)
    if not isinstance(value, float):
        raise ConfigError(f"{key} must be text, a number, true, false, null, a list or a mapping, got {shown(value)}")
    if not math.isfinite(value):
        raise ConfigError(f"{key} must be a finite number, got {shown(value)}")
    return value


def _check_names(values: dict[Any, Any], key: str) -> None:
    for name in values:
        if not isinstance(name, str):
            raise ConfigError(f"{key}: a key below it must be text, got {shown(name)}; put it in quotes")
        _text(name, f"{key}: a key below it")


def _reads_as_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return text in ("true", "false")

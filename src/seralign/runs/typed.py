"""Converts frozen dataclasses to JSON and back, and checks every key and the type of every value."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


def to_json(record: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values, by the names of its fields."""
    return asdict(record)


def from_json(kind: type[Record], content: object) -> Record:
    """A dataclass from the output of ``to_json``.

    Fields may be numbers, strings, booleans, optional values, dataclasses, and lists, tuples or string-keyed
    dictionaries of these.

    Raises:
        ValueError: a key is missing or unknown, or a value has another type; the message names the key's whole path.
    """
    return _read(kind, content, "")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(hint: Any, value: object, path: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (hint,) = (each for each in inner if each is not type(None))
        return _read(hint, value, path)
    if is_dataclass(hint) and isinstance(hint, type):
        return _read_record(hint, value, path)
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _read(inner[1], each, f"{path}.{key}") for key, each in value.items()}
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(_read(inner[0], each, f"{path}[{at}]") for at, each in enumerate(value))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    name = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    raise ValueError(f"{path.removeprefix('.') or 'the record'} is {value!r}, which is not of type {name}")


def _read_record(kind: type, value: object, path: str) -> Any:
    where = path.removeprefix(".") or "the record"
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}, which is not a JSON object")
    hints = {field.name: _hints(kind)[field.name] for field in fields(kind)}
    for what, names in (("is missing", hints.keys() - value.keys()), ("is not known", value.keys() - hints.keys())):
        if names:
            raise ValueError(f"{f'{path}.{min(map(str, names))}'.removeprefix('.')} {what}")
    return kind(**{name: _read(hint, value[name], f"{path}.{name}") for name, hint in hints.items()})

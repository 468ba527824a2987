"""The keys of a configuration: fields of nested dataclasses, named with dots."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator
from typing import Any

from seralign.objectives import OBJECTIVES, ObjectiveSum


@functools.cache
def type_hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return typing.get_type_hints(kind)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def dataclass_of(hint: Any) -> type | None:
    """The dataclass that a type is or, for an optional one, holds."""
    return next((part for part in alternatives(hint) if dataclasses.is_dataclass(part)), None)  # pyright: ignore


def value_of(hint: Any) -> Any | None:
    """The type of the values, if a type is a mapping with names chosen by the user."""
    mapping = next((part for part in alternatives(hint) if typing.get_origin(part) is dict), None)
    return None if mapping is None else typing.get_args(mapping)[1]


# Metadata of a field whose dataclass has no section of its own: its keys are in the section of the field.
INLINE = {"inline": True}


def is_inline(field: dataclasses.Field[Any]) -> bool:
    """Whether the keys of a field's dataclass are in the section of the field."""
    return "inline" in field.metadata


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a section: its type, its default (``dataclasses.MISSING`` where it has none), and its dataclass."""

    name: str
    hint: Any
    default: Any
    owner: type


def section_keys(kind: type, values: Any = None) -> Iterator[Key]:
    """The keys of a section.

    Args:
        kind: Its dataclass.
        values: An instance whose values are the defaults; by default the dataclass's own.
    """
    hints = type_hints(kind)
    for field in dataclasses.fields(kind):
        default = field.default if values is None else getattr(values, field.name)
        if values is None and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if is_inline(field):
            yield from section_keys(hints[field.name], default)
        else:
            yield Key(field.name, hints[field.name], default, kind)


def keys_below(kind: type) -> dict[str, Any]:
    """The keys of a section with their types; those of all objectives for ``objective``."""
    if kind is ObjectiveSum:
        settings = [keys_below(objective) for objective in OBJECTIVES.values()]
        return {"name": str, "weight": float} | {key: hint for keys in settings for key, hint in keys.items()}
    return {key.name: key.hint for key in section_keys(kind)}


@functools.cache
def all_keys(kind: type, prefix: str = "") -> dict[str, Any]:
    """Every key with its type, sections before what is in them."""
    found = {}
    for name, hint in keys_below(kind).items():
        found[f"{prefix}{name}"] = hint
        part = dataclass_of(hint)
        if part is not None:
            found |= all_keys(part, f"{prefix}{name}.")
    return found

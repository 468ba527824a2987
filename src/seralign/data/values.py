"""Values of rows: JSON types, JSON text, and values in messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from seralign.data.readers.json_rows import MAX_DEPTH


def shown(value: Any) -> str:
    """A wrong value for a message: its type and its beginning."""
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def from_json(text: str) -> Any:
    """The value of a JSON text; None if it is not JSON, or nested more deeply than rows may be."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if _shallow(value, MAX_DEPTH) else None


def plain(value: Any) -> Any:
    """A value in JSON types. Tables may have dates and other number types, which a template would just print."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _shallow(value: Any, levels: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(item, levels - 1) for item in items)

"""A prompt with its candidate responses and the columns that stand beside them, before any preference is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seralign.data.label import is_number
from seralign.errors import DataError


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt with K responses.

    Args:
        where: File and row, for messages and for the provenance of labels.
        prompt: Text or messages, as in the file.
        responses: Text or messages, as in the file [K].
        shared: The columns of the row.
        each: The columns of each response [K], where every response has a row or an object of its own; else empty.
        inputs: The columns that belong to the prompt, such as ``system``.
    """

    where: str
    prompt: Any
    responses: tuple[Any, ...]
    shared: Mapping[str, Any]
    each: tuple[Mapping[str, Any], ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def row(self, index: int) -> dict[str, Any]:
        """All columns that belong to a response."""
        return {**self.shared, **self.each[index]} if self.each else dict(self.shared)

    def error(self, message: str) -> DataError:
        """An error that names the row."""
        return DataError(f"{self.where}: {message}")


def shared_value(group: Group, column: str) -> Any:
    """The value of a column of the row.

    Raises:
        DataError: There is no such column.
    """
    if column not in group.shared:
        raise group.error(f"there is no column {column!r}; the columns are {', '.join(group.shared)}")
    return group.shared[column]


def each_value(group: Group, column: str | Sequence[str]) -> list[Any]:
    """The value that each response has [K].

    Args:
        group: The responses.
        column: A column with a list of K values; or a column of each response's own row or object; or K columns.

    Raises:
        DataError: There is no such column, or it does not have one value for each response.
    """
    count = len(group.responses)
    if not isinstance(column, str):
        values = [shared_value(group, name) for name in column]
    elif any(column in own for own in group.each):
        values = [own.get(column) for own in group.each]
    else:
        values = shared_value(group, column)
        if not isinstance(values, list | tuple):
            raise group.error(f"{column} must be a list with a value for each of {count} responses, got {values!r:.60}")
    if len(values) != count:
        name = column if isinstance(column, str) else ", ".join(column)
        raise group.error(f"{name} has {len(values)} values, and there are {count} responses")
    return list(values)


def number(value: Any, name: str, group: Group) -> float | None:
    """A finite number; None for null. A cell of a text table may hold it as text.

    Raises:
        DataError: It is something else, or not finite.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str) and is_number(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise group.error(f"{name} must be a finite number or null, got {value!r:.60}")
    return float(value)


def text_of(content: Any) -> str:
    """The text of a prompt or response, for checks and judges: of a conversation the contents of its messages.

    A single message is its content. Of several, each begins with its role.

    Raises:
        ValueError: It is neither text nor messages with text.
    """
    if isinstance(content, str):
        return content
    messages = [content] if isinstance(content, Mapping) else content
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError(f"text or messages are needed, got {content!r:.60}")
    if not all(isinstance(message, Mapping) for message in messages):
        raise ValueError(f"text or messages are needed, got {content!r:.60}")
    parts = [_message(message) for message in messages]
    return parts[0][1] if len(parts) == 1 else "\n\n".join(f"{role}: {text}" for role, text in parts)


def _message(message: Mapping[str, Any]) -> tuple[str, str]:
    text = message.get("content", message.get("value"))
    if isinstance(text, list | tuple) and all(isinstance(part, Mapping) for part in text):
        text = "".join(str(part.get("text", "")) for part in text)
    if isinstance(text, str):
        return str(message.get("role", message.get("from"))), text
    raise ValueError(f"text or messages are needed, got {message!r:.60}")

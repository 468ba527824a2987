"""Which response a value of a column names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seralign.preferences.groups import Group

TIE = "tie"


def chosen_index(value: Any, choices: Sequence[str], group: Group, name: str) -> int | None:
    """The index of the response that a value names; None for a tie.

    Args:
        value: An index from 0, also as text, or one of ``choices``; null, empty or ``tie`` for a tie.
        choices: A name for each response, such as A and B; empty if responses are named by index.
        group: The responses.
        name: Of the value, for messages.

    Raises:
        DataError: There is no such response.
    """
    if value is None or value in ("", TIE):
        return None
    count = len(group.responses)
    if choices:
        if value in choices[:count]:
            return list(choices).index(value)
        raise group.error(f"{name} must be one of {', '.join(choices[:count])}, or tie, got {value!r:.40}")
    index = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
        raise group.error(f"{name} must name one of {count} responses, 0 to {count - 1}, or be null, got {value!r:.40}")
    return index

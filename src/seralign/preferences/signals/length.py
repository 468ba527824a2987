"""The length of the response is within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from seralign.preferences.signals.base import Asked
from seralign.preferences.signals.bounds import check_bounds, within


@dataclass(frozen=True)
class Length:
    """Passes if the response is neither too short nor too long.

    Args:
        min: The least length that passes.
        max: The greatest length that passes.
        unit: ``characters``, ``words`` (separated by white space) or ``lines`` (those that are not empty).
    """

    min: int | None = None
    max: int | None = None
    unit: Literal["characters", "words", "lines"] = "words"
    seconds: ClassVar[float] = 5.0
    temperature: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_bounds(self.min, self.max)

    def check(self, asked: Asked) -> float:
        """1 if the length is within the bounds."""
        return float(within(_length(asked.response, self.unit), self.min, self.max))


def _length(text: str, unit: str) -> int:
    match unit:
        case "characters":
            return len(text)
        case "words":
            return len(text.split())
        case _:
            return sum(bool(line.strip()) for line in text.splitlines())

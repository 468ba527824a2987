"""A regular expression matches the response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from seralign.checks import positive
from seralign.preferences.signals.base import Asked
from seralign.preferences.signals.patterns import check_pattern, searched


@dataclass(frozen=True)
class Regex:
    """Passes if a regular expression (of the library ``regex``) matches.

    Args:
        pattern: The regular expression.
        full: It has to match the whole response; by default any part of it.
        absent: Passes if the expression does not match.
        seconds: Time for one response.
    """

    pattern: str
    full: bool = False
    absent: bool = False
    seconds: float = 1.0
    temperature: ClassVar[None] = None

    def __post_init__(self) -> None:
        positive(self.seconds, "seconds")
        check_pattern(self.pattern)

    def check(self, asked: Asked) -> float:
        """1 if it matches."""
        return float(searched(self.pattern, asked.response, self.seconds, self.full) != self.absent)

"""Regression: the error of a number in the response to a target."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seralign.checks import positive
from seralign.errors import DataError
from seralign.preferences.signals.base import Asked, NoValue
from seralign.preferences.signals.patterns import check_pattern, extracted

NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class Error:
    """The distance of a number in the response to that of a column; less is better.

    Args:
        target: The column with the right number.
        pattern: A regular expression; the number is its first group, or all that it matches, at its last match. Commas
            between digits are ignored. Default: the last number of the response.
        relative: Divide the distance by the size of the target.
        temperature: p = sigmoid(difference of the errors / temperature); null gives the smaller error p = 1.
        seconds: Time for one response.
    """

    target: str = "target"
    pattern: str = NUMBER
    relative: bool = False
    temperature: float | None = None
    seconds: float = 1.0

    def __post_init__(self) -> None:
        positive(self.seconds, "seconds")
        if self.temperature is not None:
            positive(self.temperature, "temperature")
        check_pattern(self.pattern)

    def check(self, asked: Asked) -> float:
        """Minus the error.

        Raises:
            NoValue: The response has no number.
            DataError: The target is no number, or is 0 with ``relative``.
        """
        target = _number(asked.column(self.target))
        if target is None or (self.relative and target == 0):
            rule = "a finite number other than 0 (relative: true)" if self.relative else "a finite number"
            raise DataError(f"{asked.where}: {self.target} must be {rule}, got {asked.column(self.target)!r:.60}")
        found = _number((extracted(self.pattern, asked.response, self.seconds) or "").replace(",", ""))
        if found is None:
            raise NoValue("no number in the response")
        error = abs(found - target) / (abs(target) if self.relative else 1.0)
        if not math.isfinite(error):
            raise NoValue("the error is too large for a number")
        return -error


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None

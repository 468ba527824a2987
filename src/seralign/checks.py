"""Rules for values; the message begins with the key."""

from __future__ import annotations

import math

from seralign.errors import ConfigError


def require(condition: bool, key: str, rule: str, value: object) -> None:
    """Raise ``ConfigError``, saying that ``key`` must be ``rule``, unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key} must be {rule}, got {value!r}")


def fraction(value: float, key: str) -> None:
    """A share of something, and not nothing."""
    require(0.0 < value <= 1.0, key, "in (0, 1]", value)


def positive(value: float, key: str) -> None:
    """A finite number above zero."""
    require(value > 0 and math.isfinite(value), key, "greater than 0", value)

"""Checks for configuration values. Messages begin with the key."""

from __future__ import annotations

import math

from seralign.errors import ConfigError


def require(condition: bool, key: str, rule: str, value: object) -> None:
    """Raise ``ConfigError`` (``key`` must be ``rule``) unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key} must be {rule}, got {value!r}")


def fraction(value: float, key: str) -> None:
    """Require a number in (0, 1]."""
    require(0.0 < value <= 1.0, key, "in (0, 1]", value)


def positive(value: float, key: str) -> None:
    """Require a finite number above zero."""
    require(value > 0 and math.isfinite(value), key, "greater than 0", value)


def not_negative(value: float, key: str) -> None:
    """Require a finite number of at least zero."""
    require(value >= 0 and math.isfinite(value), key, "at least 0", value)

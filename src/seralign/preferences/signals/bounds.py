"""A number within bounds that may be absent."""

from __future__ import annotations

from seralign.checks import require
from seralign.errors import ConfigError


def check_bounds(least: int | None, most: int | None) -> None:
    """Require whole numbers of at least 0 in their order.

    Raises:
        ConfigError: They are not, or there is none.
    """
    if least is None and most is None:
        raise ConfigError("min is missing: set min, max or both")
    for name, bound in (("min", least), ("max", most)):
        require(bound is None or bound >= 0, name, "at least 0", bound)
    require(least is None or most is None or least <= most, "max", f"at least min = {least}", most)


def within(value: int, least: int | None, most: int | None) -> bool:
    """Whether a number is within the bounds, both included."""
    return (least is None or value >= least) and (most is None or value <= most)

"""Rules for settings that objectives share."""

from __future__ import annotations

from seralign.checks import positive, require


def check_beta(beta: float) -> None:
    """Refuse a ``beta`` that is no strength, or beyond which losses overflow."""
    positive(beta, "beta")
    require(beta <= 1e6, "beta", "at most 1e6", beta)

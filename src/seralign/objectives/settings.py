"""Rules for settings that objectives share."""

from __future__ import annotations

from seralign.checks import positive, require


def check_beta(beta: float) -> None:
    """Refuse a ``beta`` that is no strength, or beyond which losses overflow."""
    positive(beta, "beta")
    require(beta <= 1e6, "beta", "at most 1e6", beta)


def check_target(target_margin: float) -> None:
    """Refuse a ``target_margin`` beyond which losses overflow."""
    require(abs(target_margin) <= 1e6, "target_margin", "at most 1e6 in size", target_margin)


def check_flips(label_smoothing: float) -> None:
    """Refuse a ``label_smoothing`` under which a label says nothing, or the opposite."""
    require(0 <= label_smoothing < 0.5, "label_smoothing", "at least 0 and below 0.5", label_smoothing)


def check_weight(weight: float, name: str) -> None:
    """Refuse a weight of a term that turns it round, or beyond which losses overflow."""
    require(0 <= weight <= 1e6, name, "at least 0 and at most 1e6", weight)

"""Linear Alignment: a step away from what a policy says without a principle. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from seralign.checks import not_negative, require


@dataclass(frozen=True)
class LinearAlignmentConfig:
    """Tuning-free alignment to a principle that is given as a text (2401.11458).

    Args:
        principle: The principle. It is added to the system message; to plain text, it is put before.
        step: Size of the step. 0 samples from the policy that is prompted with the principle.
    """

    principle: str
    step: float = 2.0

    def __post_init__(self) -> None:
        require(bool(self.principle.strip()), "principle", "a text", self.principle)
        not_negative(self.step, "step")

"""The response that a column says is the better one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from seralign.checks import require
from seralign.preferences.groups import Group, shared_value
from seralign.preferences.opinions import Ballot, Compared
from seralign.preferences.signals.choices import chosen_index


@dataclass(frozen=True)
class Comparison:
    """The preferred response, which is better than each of the others.

    Args:
        column: The column: the index of the preferred response (0 is the first), or its name in ``choices``; null or
            ``tie`` for a tie.
        choices: Names of the responses in their order, e.g. [A, B].
        p: Probability that the preferred response is better.
    """

    column: str = "preferred"
    choices: list[str] = field(default_factory=list)
    p: float = 1.0
    temperature: ClassVar[None] = None

    def __post_init__(self) -> None:
        require(0.5 < self.p <= 1.0, "p", "above 0.5 and at most 1", self.p)

    def read(self, group: Group) -> Compared:
        """The preferred response against each of the others."""
        best = chosen_index(shared_value(group, self.column), self.choices, group, self.column)
        if best is None:
            return Compared((), ("a tie",))
        others = (other for other in range(len(group.responses)) if other != best)
        return Compared(tuple(Ballot(best, other, self.p) for other in others))

"""The loss of a training: one objective, or the weighted sum of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seralign.objectives.base import HeadName, Need, Objective, head_of, needs_of


@dataclass(frozen=True)
class Term:
    """One objective of a sum: its name in the configuration, and what its loss counts."""

    name: str
    objective: Objective
    weight: float = 1.0


@dataclass(frozen=True)
class ObjectiveSum:
    """One objective, or several whose losses are added, each times its weight.

    The loss of a step is the sum of the terms' losses, each averaged over the term's own unit.
    """

    terms: tuple[Term, ...]

    @property
    def name(self) -> str:
        """``dpo``, or ``dpo + 0.2 sft``."""
        return sum_name([(term.name, term.weight) for term in self.terms])

    @property
    def primary(self) -> Objective:
        """The objective whose implicit reward reviews data: the first that compares responses, else the first."""
        return next((term.objective for term in self.terms if term.objective.reads == "all"), self.terms[0].objective)

    @property
    def compares(self) -> bool:
        """Whether responses are compared, so that pairs have margins."""
        return self.primary.reads == "all"

    @property
    def joins_demonstrations(self) -> bool:
        """Whether pairs are compared and demonstrations imitated in one training."""
        return self.compares and all({"pair", "demonstration"} <= term.objective.forms for term in self.terms)

    @property
    def reads(self) -> Literal["all", "first"]:
        """Whether a term reads all responses of an example, or all of them the first alone."""
        return "all" if any(term.objective.reads == "all" for term in self.terms) else "first"

    @property
    def needs(self) -> frozenset[Need]:
        """What the terms read beside the values of their examples."""
        return frozenset().union(*(needs_of(term.objective) for term in self.terms))

    @property
    def uses_reference(self) -> bool:
        """Whether a term reads log-probabilities of the reference."""
        return any(term.objective.uses_reference for term in self.terms)

    @property
    def head(self) -> HeadName:
        """The head that all terms train."""
        return head_of(self.terms[0].objective)

    @property
    def samples(self) -> bool:
        """Whether what is trained can answer prompts."""
        return self.head == "language_model"


def sum_name(terms: Sequence[tuple[str, float]]) -> str:
    """Names and weights of terms in one name."""
    return " + ".join(name if weight == 1.0 else f"{weight:g} {name}" for name, weight in terms)


def one(name: str, objective: Objective) -> ObjectiveSum:
    """An objective alone."""
    return ObjectiveSum((Term(name, objective),))

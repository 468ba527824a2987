"""Votes of several annotators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, ClassVar, Literal

from seralign.checks import require
from seralign.preferences.extras import check_installed
from seralign.preferences.groups import Group, each_value, number, shared_value
from seralign.preferences.opinions import Ballot, Compared
from seralign.preferences.signals.choices import chosen_index


@dataclass(frozen=True)
class Votes:
    """Votes of several annotators.

    Args:
        column: The column: the number of votes for each response (a list, a column of each response's own row or
            object, or a list of columns); or a list of votes ``{annotator, choice}`` or ``{annotator, better, worse}``;
            or an object from annotator to choice. A choice is the index of a response (0 is the first) or its name in
            ``choices``; null or ``tie`` for a tie.
        annotators: In place of ``column``: columns with the choice of one annotator each.
        choices: Names of the responses in their order, e.g. [A, B].
        method: ``beta`` counts votes. ``dawid_skene`` weighs them by how reliable their annotators are, and
            ``bradley_terry`` also puts all responses to a prompt on one scale; both need to know the annotators.
        prior: Added to the votes of each response: k of n votes give p = (k + prior) / (n + 2 prior). Also added to the
            right and to the wrong votes of an annotator.
    """

    column: str | list[str] = "votes"
    annotators: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    method: Literal["beta", "dawid_skene", "bradley_terry"] = "beta"
    prior: float = 1.0
    temperature: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.method != "beta":
            check_installed("crowdkit", "crowd-kit", f"method: {self.method}")
        if self.method == "bradley_terry":
            check_installed("choix", "choix", f"method: {self.method}")
        require(self.prior >= 0, "prior", "at least 0", self.prior)
        require(self.method == "beta" or self.prior > 0, "prior", f"above 0 with method: {self.method}", self.prior)

    def read(self, group: Group) -> Compared:
        """The votes as comparisons of two responses each.

        Raises:
            DataError: A vote is negative or for a response that is not there, or its annotator is not known and
                ``method`` needs it.
        """
        ballots = tuple(self._ballots(group))
        if self.method != "beta" and any(one.annotator is None for one in ballots):
            raise group.error(f"method: {self.method} needs the annotator of each vote; counts alone go with beta")
        return Compared(ballots, () if ballots else ("no votes",))

    def _ballots(self, group: Group) -> Iterator[Ballot]:
        if self.annotators:
            for name in self.annotators:
                yield from self._choice(shared_value(group, name), name, group)
            return
        value = group.shared.get(self.column) if isinstance(self.column, str) else None
        if isinstance(value, Mapping):
            for annotator, choice in value.items():
                yield from self._choice(choice, str(annotator), group)
        elif isinstance(value, list | tuple) and any(isinstance(vote, Mapping) for vote in value):
            for vote in value:
                yield from self._vote(vote, group)
        else:
            yield from self._counts(group)

    def _counts(self, group: Group) -> Iterator[Ballot]:
        counts = [number(value, "votes", group) or 0.0 for value in each_value(group, self.column)]
        if any(count < 0 for count in counts):
            raise group.error(f"votes must be at least 0, got {min(counts):g}")
        for first, second in combinations(range(len(counts)), 2):
            total = counts[first] + counts[second]
            if total > 0:
                yield Ballot(first, second, counts[first] / total, total)

    def _vote(self, vote: Any, group: Group) -> Iterator[Ballot]:
        if not isinstance(vote, Mapping):
            raise group.error(f"a vote must be an object with choice, or with better and worse, got {vote!r:.60}")
        annotator = None if vote.get("annotator") is None else str(vote["annotator"])
        if "choice" in vote:
            yield from self._choice(vote["choice"], annotator, group)
            return
        if "better" not in vote or "worse" not in vote:
            raise group.error(f"a vote needs choice, or better and worse; it has {', '.join(map(str, vote))}")
        better, worse = (chosen_index(vote[name], self.choices, group, name) for name in ("better", "worse"))
        if better is None or worse is None or better == worse:
            raise group.error(f"a vote has better {better} and worse {worse}; they must be two responses")
        yield Ballot(better, worse, 1.0, 1.0, annotator)

    def _choice(self, value: Any, annotator: str | None, group: Group) -> Iterator[Ballot]:
        best = chosen_index(value, self.choices, group, "a choice")
        if best is None:
            yield from (Ballot(*pair, 0.5, 1.0, annotator) for pair in combinations(range(len(group.responses)), 2))
            return
        yield from (Ballot(best, other, 1.0, 1.0, annotator) for other in range(len(group.responses)) if other != best)

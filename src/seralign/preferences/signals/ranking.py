"""A ranking of the responses in a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from seralign.preferences.groups import Group, each_value, number
from seralign.preferences.opinions import Scored


@dataclass(frozen=True)
class Ranking:
    """Ranks of the responses: 1 is the best, and equal ranks are a tie.

    After a tie of two for rank 1 the next rank is 2 or 3. A response with null is not ranked.

    Args:
        column: The column: a list with a rank for each response, or a column of each response's own row or object, or a
            list of columns.
    """

    column: str | list[str] = "ranks"
    temperature: ClassVar[None] = None

    def read(self, group: Group) -> Scored:
        """Minus the rank of each response.

        Raises:
            DataError: A rank is no whole number from 1, or ranks are left out.
        """
        ranks = [number(value, "a rank", group) for value in each_value(group, self.column)]
        given = [rank for rank in ranks if rank is not None]
        dense = {rank: level for level, rank in enumerate(sorted(set(given)), start=1)}
        skipping = {rank: 1 + sum(other < rank for other in given) for rank in given}
        if not any(all(rank == level for rank, level in kind.items()) for kind in (dense, skipping)):
            shown = ", ".join("null" if rank is None else f"{rank:g}" for rank in ranks)
            raise group.error(f"ranks must be whole numbers from 1 without holes, got {shown}")
        return Scored(tuple(None if rank is None else -rank for rank in ranks), ("not ranked",) * ranks.count(None))

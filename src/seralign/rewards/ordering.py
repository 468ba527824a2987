"""How the preference of each example orders its responses, and the margin that this gives.

Legend: N examples, R responses of all of them, numbered as in ``seralign.data.numbering``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from datasets import Dataset

from seralign.data.numbering import Numbering
from seralign.data.table_columns import all_lengths, numbered_responses, worths

# Comparisons of responses held at once.
_HELD = 20_000


@dataclass(frozen=True, eq=False)
class Ordering:
    """The order of the responses of each of N examples.

    Args:
        numbering: Of the responses.
        worth: How good each response is, by the preference [R]; only comparable within an example.
    """

    numbering: Numbering
    worth: np.ndarray

    def margin(self, values: np.ndarray) -> np.ndarray:
        """The mean of v(better) - v(worse) over the ordered pairs of responses of each example [N].

        Of K responses without a tie this is 2 / (K (K - 1)) * the sum over i < j of v(y_i) - v(y_j), y_1 the best. Tied
        responses are no ordered pair. Of two responses it is their difference, to the last bit. With implicit rewards
        as values it is the margin of the example; it is linear in the values.

        Args:
            values: One value for each response [R].

        Returns:
            0 for an example without an ordered pair.

        For example, the values 5, 1, 3 of the ranks 1, 2, 3 give (4 + 2 - 2) / 3 = 4/3, and of the ranks 1, 2, 2
        (4 + 2) / 2 = 3.
        """
        leads, pairs = self._compared
        sums = np.bincount(self.numbering.rows, leads * values, minlength=len(pairs))
        return sums / np.maximum(pairs, 1)

    @property
    def pairs(self) -> np.ndarray:
        """The number of ordered pairs of responses of each example [N]."""
        return self._compared[1]

    @cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the best and of the worst response of each example, [N] each. Of equal ones the first is the
        best, and the last the worst."""
        count = len(self.numbering.counts)
        by_worth = np.lexsort((self.numbering.places, -self.worth, self.numbering.rows))
        starts = np.cumsum(self.numbering.counts) - self.numbering.counts
        if not count:
            return by_worth, by_worth
        return by_worth[starts], by_worth[starts + self.numbering.counts - 1]

    @cached_property
    def _compared(self) -> tuple[np.ndarray, np.ndarray]:
        """How many responses of its example are worse than a response, minus how many are better [R]; and the ordered
        pairs of each example [N]."""
        counts = self.numbering.counts
        starts = np.cumsum(counts) - counts
        leads, pairs = np.zeros(len(self.numbering)), np.zeros(len(counts), dtype=np.int64)
        for size in np.unique(counts).tolist():
            rows = np.flatnonzero(counts == size)
            step = max(1, _HELD // size**2)
            for some in (rows[at : at + step] for at in range(0, len(rows), step)):
                numbers = self.numbering.by_row[starts[some][:, None] + np.arange(size)]
                worth = self.worth[numbers]
                signs = np.sign(worth[:, :, None] - worth[:, None, :])
                leads[numbers] = signs.sum(axis=2)
                pairs[some] = (signs > 0).sum(axis=(1, 2))
        return leads, pairs


def ordering_of(table: Dataset) -> Ordering:
    """The order of the responses of a table's pairs, rankings and scores.

    Raises:
        ValueError: An example has a label or no preference, which order nothing.
    """
    numbering = numbered_responses(table)
    return Ordering(numbering, worths(table, numbering))


def length_difference(table: Dataset) -> np.ndarray:
    """The margin of the lengths, in tokens [N]: of a pair, tokens of the chosen less those of the rejected response."""
    ordering = ordering_of(table)
    return ordering.margin(all_lengths(table, ordering.numbering))

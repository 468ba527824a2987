"""How the responses of examples are numbered: place by place, whatever the number of responses of each example.

Legend: N examples, R responses of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Numbering:
    """Numbers 0 to R - 1 of responses: the first responses of all examples in their order, then the second ones, ...

    Of N pairs, response ``place`` of row r is number ``place * N + r``. Where an example has fewer responses than
    others, it has no number at the places that it lacks.

    Worked by hand: counts 1, 3, 2 give rows 0, 1, 2, 1, 2, 1 and places 0, 0, 0, 1, 1, 2.

    Args:
        counts: Responses of each example [N].
    """

    counts: np.ndarray

    def __len__(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def _by_place(self) -> list[np.ndarray]:
        return [np.flatnonzero(self.counts > place) for place in range(int(self.counts.max(initial=0)))]

    @cached_property
    def rows(self) -> np.ndarray:
        """The example of each response [R]."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *self._by_place])

    @cached_property
    def places(self) -> np.ndarray:
        """The place of each response in its example, 0 the first [R]."""
        return np.repeat(np.arange(len(self._by_place)), [len(rows) for rows in self._by_place])

    @cached_property
    def by_row(self) -> np.ndarray:
        """The numbers in the order of the examples, the responses of an example one after the other [R]."""
        return np.lexsort((self.places, self.rows))

    def as_lists(self, of_response: np.ndarray) -> pa.ListArray:
        """A number of each response [R] as a list for each example [N]; NaN becomes null."""
        offsets = np.concatenate([[0], np.cumsum(self.counts)])
        values = pa.array(of_response[self.by_row], pa.float64(), from_pandas=True)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)

    def from_lists(self, lists: pa.ChunkedArray) -> np.ndarray:
        """What ``as_lists`` made, as a number of each response [R]."""
        found = np.empty(len(self))
        found[self.by_row] = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return found

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the responses of some examples, in the same order: those of the first place first."""
        found, before = [np.zeros(0, dtype=np.int64)], 0
        for having in self._by_place:
            some = rows[self.counts[rows] > len(found) - 1]
            found.append(before + np.searchsorted(having, some))
            before += len(having)
        return np.concatenate(found)

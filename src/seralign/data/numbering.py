"""Numbering of the responses of examples with any number of responses each, place by place.

Legend: N examples, R responses in total.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Numbering:
    """Numbers 0 to R - 1 of responses: the first response of every example in order, then the second ones, and so on.

    For N pairs, response ``place`` of row r has number ``place * N + r``. An example with fewer responses has no number
    at the places that it lacks. For example, counts 1, 3, 2 give rows 0, 1, 2, 1, 2, 1 and places 0, 0, 0, 1, 1, 2.

    Args:
        counts: Responses of each example [N].
    """

    counts: np.ndarray

    def __len__(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def _by_place(self) -> list[np.ndarray]:
        places = range(int(self.counts.max(initial=0)))
        return [np.flatnonzero(self.counts > place).astype(np.int32) for place in places]

    @cached_property
    def rows(self) -> np.ndarray:
        """The example of each response [R]."""
        return np.concatenate([np.zeros(0, dtype=np.int32), *self._by_place])

    @cached_property
    def places(self) -> np.ndarray:
        """The place of each response in its example [R]; 0 is the first."""
        return np.repeat(np.arange(len(self._by_place), dtype=np.int32), [len(rows) for rows in self._by_place])

    @cached_property
    def by_row(self) -> np.ndarray:
        """The response numbers in order of examples; the responses of an example are adjacent [R]."""
        found, starts = np.empty(len(self), dtype=np.int32), np.cumsum(self.counts) - self.counts
        found[starts[self.rows] + self.places] = np.arange(len(self), dtype=np.int32)
        return found

    def as_lists(self, of_response: np.ndarray) -> pa.ListArray:
        """One value per response [R] as a list per example [N]; NaN becomes null."""
        offsets = np.concatenate([[0], np.cumsum(self.counts)])
        values = pa.array(of_response[self.by_row], pa.float64(), from_pandas=True)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)

    def from_lists(self, lists: pa.ChunkedArray) -> np.ndarray:
        """The inverse of ``as_lists``: one value per response [R]."""
        found = np.empty(len(self))
        found[self.by_row] = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return found

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the responses of some examples, in increasing order of place."""
        found, before = [np.zeros(0, dtype=np.int64)], 0
        for having in self._by_place:
            some = rows[self.counts[rows] > len(found) - 1]
            found.append(before + np.searchsorted(having, some))
            before += len(having)
        return np.concatenate(found)

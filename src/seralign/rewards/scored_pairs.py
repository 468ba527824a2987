"""What a selection rule may read about pairs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seralign.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPairs:
    """N pairs, or rankings and scores of several responses, with their margins.

    Args:
        example_ids: Distinct ids [N]; a column of Arrow takes a quarter of the memory of a list.
        prompt_ids: The prompt of each pair [N]; the same.
        margins: Margins in nats [N], float64.
        p: Probability that the chosen response is better [N]; 1 for other forms.
        chosen_lengths: Tokens of the chosen responses [N]; of other forms, of the best ones.
        rejected_lengths: Tokens of the rejected responses [N]; of other forms, of the worst ones.

    Raises:
        DataError: a margin is not finite, or two pairs have the same id; names the pair.
        ValueError: a field is not [N].
    """

    example_ids: Sequence[str] | pa.ChunkedArray
    prompt_ids: Sequence[str] | pa.ChunkedArray
    margins: np.ndarray
    p: np.ndarray
    chosen_lengths: np.ndarray
    rejected_lengths: np.ndarray

    def __post_init__(self) -> None:
        ids, margins = texts(self.example_ids), self.margins
        shapes = {"prompt_ids": [len(self.prompt_ids)]}
        shapes |= {name: list(np.shape(getattr(self, name))) for name in ("margins", "p", "chosen_lengths",
                   "rejected_lengths")}  # fmt: skip
        for name, shape in shapes.items():
            if shape != [len(ids)]:
                raise ValueError(f"{name} must have shape [{len(ids)}], one for each pair, got {shape}")
        bad = np.flatnonzero(~np.isfinite(margins))
        if bad.size:
            raise DataError(
                f"pair {ids[int(bad[0])].as_py()!r}: margin is {margins[bad[0]]}, must be a finite number "
                f"({bad.size} of {len(ids)} pairs have such a margin)"
            )
        if pc.count_distinct(ids).as_py() < len(ids):  # pyright: ignore
            repeated = next(found["values"] for found in pc.value_counts(ids).to_pylist() if found["counts"] > 1)  # pyright: ignore
            raise DataError(f"example_id {repeated!r} occurs more than once; each scored pair needs a unique id")


def texts(ids: Sequence[str] | pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as a column of Arrow."""
    return ids if isinstance(ids, pa.ChunkedArray) else pa.chunked_array([pa.array(ids, pa.string())])


def scored_pairs(pairs: Dataset, margins: np.ndarray) -> ScoredPairs:
    """A table of pairs, rankings or scores with their margins in nats [N]."""
    from seralign.data.table_columns import all_lengths, id_column, pair_labels
    from seralign.rewards.ordering import ordering_of

    ordering = ordering_of(pairs)
    lengths = all_lengths(pairs, ordering.numbering)
    best, worst = ordering.ends
    return ScoredPairs(
        example_ids=id_column(pairs),
        prompt_ids=id_column(pairs, "prompt_id"),
        margins=np.asarray(margins, dtype=np.float64),
        p=pair_labels(pairs),
        chosen_lengths=lengths[best],
        rejected_lengths=lengths[worst],
    )

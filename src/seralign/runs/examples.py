"""The columns of a table of examples in Arrow, and the k-th response of each without making Python lists.

``responses`` (texts) and ``response_ids`` have a list for each example, with an entry for each of its responses.
Examples may have different numbers of responses.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CARRIED = "carried."
"""Prefix of columns that ``data.keep_columns`` keeps from the source."""

_IDS = pa.list_(pa.int32())
EXAMPLE_SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("prompt_id", pa.string()),
        ("origin", pa.string()),
        ("prompt", pa.string()),
        ("messages", pa.string()),
        ("template_inputs", pa.string()),
        ("prompt_ids", _IDS),
        ("responses", pa.list_(pa.string())),
        ("response_ids", pa.list_(_IDS)),
        ("form", pa.string()),
        ("preference", pa.list_(pa.float64())),
        ("weight", pa.float64()),
    ]
)
"""Columns of every table of examples; ``carried.NAME`` follow, as text. ``preference`` depends on ``form``: for a pair
the probability of each response to be better, for a ranking the ranks, for scores the scores, for a label 0 or 1, and
for a demonstration nothing."""


def carried_columns(names: list[str]) -> dict[str, str]:
    """The columns of a table that come from the source: their names there, mapped to their names here."""
    return {name.removeprefix(CARRIED): name for name in names if name.startswith(CARRIED)}


def whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def counts(lists: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Number of entries in each list of a column [N]; 0 for null."""
    return pc.fill_null(pc.list_value_length(whole(lists)), 0).to_numpy().astype(np.int64)  # pyright: ignore


def entry(lists: pa.Array | pa.ChunkedArray, place: int) -> pa.Array:
    """The entry at ``place`` in each list of a column [N]; null if a list is too short."""
    found: pa.ListArray = whole(lists)  # pyright: ignore
    at = found.offsets.to_numpy()[:-1].astype(np.int64) + place
    return found.values.take(pa.array(at, mask=counts(found) <= place))


def first_label(preference: pa.Array | pa.ChunkedArray) -> pa.Array:
    """p of pairs [N] from the column ``preference``: the probability that the first response is better."""
    return entry(preference, 0)

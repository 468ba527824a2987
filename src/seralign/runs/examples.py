"""The columns of a table of examples in Arrow, and the k-th response of each without making Python lists.

``responses`` (texts) and ``response_ids`` have a list for each example, with an entry for each of its responses.
Examples may have different numbers of responses.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CARRIED = "carried."
"""Beginning of the names of the columns that ``data.keep_columns`` brought from the source."""

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
"""Columns of every table of examples; ``carried.NAME`` follow, as text. ``preference`` is what ``form`` says of the
responses: of a pair the probability of each that it is the better one, of a ranking ranks, of scores the scores, of a
label 0 or 1, of a demonstration nothing."""


def carried_columns(names: list[str]) -> dict[str, str]:
    """Of the columns of a table, those that were brought from the source: their names there to their names here."""
    return {name.removeprefix(CARRIED): name for name in names if name.startswith(CARRIED)}


def whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def counts(lists: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Entries of each list of a column [N]; 0 where it is null."""
    return pc.fill_null(pc.list_value_length(whole(lists)), 0).to_numpy().astype(np.int64)  # pyright: ignore


def entry(lists: pa.Array | pa.ChunkedArray, place: int) -> pa.Array:
    """The entry at a place of each list of a column [N]; null where a list has no such place."""
    found: pa.ListArray = whole(lists)  # pyright: ignore
    at = found.offsets.to_numpy()[:-1].astype(np.int64) + place
    return found.values.take(pa.array(at, mask=counts(found) <= place))


def first_label(preference: pa.Array | pa.ChunkedArray) -> pa.Array:
    """p of pairs [N], from the column ``preference``: the probability that the first response is the better one."""
    return entry(preference, 0)

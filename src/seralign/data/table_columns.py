"""The columns of tables of examples and prompts, read from Arrow without a record for each row.

All access to the columns of a table goes through these functions; no other module reads response columns by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from seralign.data.numbering import Numbering
from seralign.runs.examples import counts, entry, first_label
from seralign.runs.streams import StoredRows

# Rows of one column read at once; they stay in Arrow's format.
_READ = 10_000

_TRAINING = ["example_id", "prompt_ids", "response_ids", "form", "preference", "weight"]


def training_columns(table: Dataset) -> Dataset:
    """A table of examples without texts, for training."""
    return table.select_columns(_TRAINING)


def example_ids(table: Dataset) -> list[str]:
    """The ids of a table's examples [N]."""
    return list(column_values(table, "example_id"))


def id_column(table: Dataset, column: str = "example_id") -> pa.ChunkedArray:
    """A column of texts [N], such as ids, in Arrow."""
    return pa.chunked_array(_arrow(table, column), pa.string())


def column_values(table: Dataset, column: str) -> Iterator[Any]:
    """The values of a column one after the other; few are in memory at once."""
    return (value for rows in _arrow(table, column) for value in rows.to_pylist())


def forms(table: Dataset) -> tuple[str, ...]:
    """The forms of preference in a table of examples, sorted; () if it is empty."""
    found = {form for rows in _arrow(table, "form") for form in pc.unique(rows).to_pylist()}  # pyright: ignore
    return tuple(sorted(found))


def ordering_forms(table: Dataset) -> tuple[str, ...]:
    """As ``forms``, of a table whose examples all order their responses.

    Raises:
        ValueError: An example has another form of preference.
    """
    found = forms(table)
    others = sorted(set(found) - {"pair", "ranking", "scores"})
    if others:
        raise ValueError(f"only pairs, rankings and scores order responses, got {' and '.join(others)}")
    return found


def pair_labels(pairs: Dataset) -> np.ndarray:
    """p [N]: the probability that the first response of each pair is the better one; 1 for other forms."""
    first = _joined(first_label(lists).to_numpy() for lists in _lists(pairs, "preference")).astype(np.float64)
    return first if forms(pairs) == ("pair",) else np.where(_form_of_each(pairs) == "pair", first, 1.0)


def worths(table: Dataset, numbering: Numbering) -> np.ndarray:
    """How good the preference says that each response is [R]; only comparable within an example.

    Of a pair, the first response is the better one, whatever p is; of a ranking it is minus the rank, of scores the
    score.

    Args:
        table: Examples with R responses.
        numbering: Of all their responses.

    Raises:
        ValueError: An example has another form of preference.
    """
    found = ordering_forms(table)
    if found in ((), ("pair",)):
        return (-numbering.places).astype(np.float64)
    lists = [np.zeros(0), *(rows.flatten().to_numpy() for rows in _lists(table, "preference"))]
    stored = np.empty(len(numbering))
    stored[numbering.by_row] = np.concatenate(lists)
    form = _form_of_each(table)[numbering.rows]
    return np.where(form == "scores", stored, np.where(form == "ranking", -stored, -numbering.places))


def weights(table: Dataset) -> np.ndarray:
    """The weights of a table's examples [N], float32."""
    # The file has float64. Runs read it with ``datasets`` before, which gave float32; rounding keeps their results.
    return _joined((rows.to_numpy().astype(np.float32) for rows in _arrow(table, "weight")), np.float32)


def response_counts(table: Dataset) -> np.ndarray:
    """Responses of each example [N]."""
    return _joined(counts(lists) for lists in _lists(table, "response_ids")).astype(np.int64)


def numbered_responses(table: Dataset, reads: Literal["all", "first"] = "all") -> Numbering:
    """Numbering of the responses in a table of examples: of all, or of the first of each example."""
    given = response_counts(table)
    return Numbering(np.minimum(given, 1) if reads == "first" else given)


def response_lengths(table: Dataset, place: int) -> np.ndarray:
    """Tokens of the response at ``place`` of each example [N]; 0 is the first place. 0 if it has no such response."""
    return _joined(counts(entry(lists, place)) for lists in _lists(table, "response_ids")).astype(np.int64)


def all_lengths(table: Dataset, numbering: Numbering) -> np.ndarray:
    """Tokens of each response in order of its number [R]; only of those that the numbering has."""
    found = _joined(counts(lists.flatten()) for lists in _lists(table, "response_ids")).astype(np.int64)
    starts = np.cumsum(own := response_counts(table)) - own
    return found[starts[numbering.rows] + numbering.places]


def response_ids(table: Dataset, place: int) -> Iterator[np.ndarray]:
    """The token ids of the response at ``place`` of each example, int64 [length]; empty if it has none."""
    for lists in _lists(table, "response_ids"):
        yield from _arrays(entry(lists, place))


def token_rows(table: Dataset) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """For each example the ids of its prompt and of each response, as in ``column_arrays``."""
    responses = (ids for lists in _lists(table, "response_ids") for ids in _arrays(lists.flatten()))
    for prompt, count in zip(column_arrays(table, "prompt_ids"), response_counts(table).tolist(), strict=True):
        yield prompt, list(islice(responses, count))


def response_texts(table: Dataset, place: int) -> list[str]:
    """The text of the response at ``place`` of each example [N]."""
    return [text for lists in _lists(table, "responses") for text in entry(lists, place).to_pylist()]


def largest_token(table: Dataset) -> int:
    """The largest token id in a table of examples or prompts; -1 if there is none."""
    largest = [-1]
    for name in ("prompt_ids", "ids", "response_ids"):
        for lists in _lists(table, name) if name in table.column_names else ():
            flat = lists.flatten()
            flat = flat.flatten() if name == "response_ids" else flat  # pyright: ignore
            largest.append(pc.max(flat).as_py() if len(flat) else -1)  # pyright: ignore
    return max(largest)


def column_lengths(table: Dataset, column: str) -> np.ndarray:
    """[N] lengths of a list column, without converting to Python lists."""
    return _joined(counts(lists) for lists in _lists(table, column)).astype(np.int64)


def column_arrays(table: Dataset, column: str) -> Iterator[np.ndarray]:
    """The lists of a column of token ids, row by row, int64 [length] each, without converting to Python lists."""
    for lists in _lists(table, column):
        yield from _arrays(lists)


def as_examples(candidates: pa.Table) -> pa.Table:
    """Candidates with one response a row in ``ids`` as a table with the ``response_ids`` column of examples."""
    ids = candidates["ids"].combine_chunks()
    offsets = pa.array(np.arange(len(candidates) + 1), pa.int32())
    return candidates.append_column("response_ids", pa.ListArray.from_arrays(offsets, ids))


def _form_of_each(table: Dataset) -> np.ndarray:
    return _joined((np.array(rows.to_pylist(), dtype=str) for rows in _arrow(table, "form")), str)


def _arrow(table: Dataset, column: str) -> Iterator[pa.Array]:
    """A column in parts of at most ``_READ`` rows: views of the file, or copies of chosen rows."""
    rows = cast(pa.Table, table.data.table).select([column])
    if table._indices is None:
        for chunk in rows.column(0).chunks:
            yield from (chunk.slice(start, _READ) for start in range(0, len(chunk), _READ))
        return
    # Of chosen rows, ``datasets`` would make a table of one row each and join these.
    chosen, read = table._indices.column(0), StoredRows(rows)
    for start in range(0, len(chosen), _READ):
        some = chosen.slice(start, _READ).to_numpy().astype(np.int64)
        yield read.take(some).column(0).combine_chunks()  # pyright: ignore


def _lists(table: Dataset, column: str) -> Iterator[pa.ListArray]:
    return cast(Iterator[pa.ListArray], _arrow(table, column))


def _arrays(lists: Any) -> Iterator[np.ndarray]:
    """The lists of an array of token ids, int64 [length] each."""
    ids = lists.flatten().to_numpy().astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(counts(lists))])
    for start, end in pairwise(ends.tolist()):
        yield ids[start:end]


def _joined(parts: Iterable[np.ndarray], dtype: type = np.int64) -> np.ndarray:
    """The parts in one array; of ``dtype`` if there are none."""
    return np.concatenate([np.zeros(0, dtype), *parts])

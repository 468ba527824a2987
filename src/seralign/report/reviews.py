"""Margins and selection of the pairs in each round, as arrays, for the charts of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seralign.report.contents import RunContents
from seralign.report.pairs import SELECTED, first_round


@dataclass(frozen=True)
class Review:
    """The N pairs that a round of a run scored.

    Args:
        run: The run's name.
        index: The round.
        margin: [N], nats.
        kept: [N], whether the round trained on the pair; before its training, whether it selected the pair.
        generated: [N], whether the policy made the pair itself.
        longer: [N], tokens of the chosen minus those of the rejected response.
        trained: Whether the round has been trained.
    """

    run: str
    index: int
    margin: np.ndarray
    kept: np.ndarray
    generated: np.ndarray
    longer: np.ndarray
    trained: bool = True


def reviews(contents: RunContents) -> list[Review]:
    """The pairs of each round that selected some; rounds that scored none are left out."""
    pairs = contents.pairs
    if pairs is None or len(pairs) == 0:
        return []
    longer = pc.subtract(pairs["chosen_length"], pairs["rejected_length"]).to_numpy()  # pyright: ignore
    generated = pc.not_equal(pairs["origin"], "offline").to_numpy()  # pyright: ignore
    found = []
    margins, reasons = by_round(pairs["margins"], float("nan")), by_round(pairs["kept"], "")
    for index, (scored, reason) in enumerate(zip(margins, reasons, strict=True), first_round(pairs)):
        margin = scored.to_numpy(zero_copy_only=False).astype(np.float64)
        trained = pc.equal(reason, "kept").to_numpy(zero_copy_only=False)  # pyright: ignore
        selected = pc.equal(reason, SELECTED).to_numpy(zero_copy_only=False)  # pyright: ignore
        seen = np.isfinite(margin)
        if seen.any():
            kept = (trained | selected)[seen]
            is_trained = not selected.any()
            found.append(Review(contents.name, index, margin[seen], kept, generated[seen], longer[seen], is_trained))
    return found


def by_round(lists: pa.ChunkedArray, absent: Any) -> list[pa.Array]:
    """A column of lists of equal length as one array for each place; nulls become ``absent``."""
    column = lists.combine_chunks()
    width = pc.max(pc.list_value_length(column)).as_py() or 0  # pyright: ignore
    return [pc.fill_null(pc.list_element(column, place), absent) for place in range(width)]  # pyright: ignore

"""Pairs of responses whose order is known, from examples of any form of preference.

Legend: N examples, R responses, M pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import datasets
import numpy as np
import pyarrow as pa

from seralign.data.numbering import Numbering


@dataclass(frozen=True)
class Ordered:
    """Pairs of responses to the same prompt, one better than the other.

    Args:
        rows: The example of each pair [M].
        better: The number of the better response [M].
        worse: The number of the other one [M].
        margins: Reward of the better one less that of the other one [M].
        labels: Probability that the better one is better [M]: the label of a pair, 1 in other forms.
    """

    rows: np.ndarray
    better: np.ndarray
    worse: np.ndarray
    margins: np.ndarray
    labels: np.ndarray


def ordered_pairs(table: datasets.Dataset, numbering: Numbering, rewards: np.ndarray) -> Ordered:
    """All pairs of responses of an example whose order is known; ties are left out.

    A pair is in the order of its label: a label below one half says that the second response is the better one.

    Args:
        table: Examples with a preference over their responses.
        numbering: Of all their responses.
        rewards: [R].
    """
    columns = cast(pa.Table, table.select_columns(["form", "preference"]).with_format("arrow")[:])
    forms = np.array(columns["form"].to_pylist())
    said = numbering.from_lists(columns["preference"])
    goodness = np.where(forms[numbering.rows] == "ranking", -said, said)
    better, worse = [], []
    by_row = np.split(numbering.by_row, np.cumsum(numbering.counts)[:-1])
    for numbers in by_row:
        above = goodness[numbers][:, None] > goodness[numbers][None, :]
        first, second = np.nonzero(above)
        better.append(numbers[first])
        worse.append(numbers[second])
    best, rest = (np.concatenate([np.zeros(0, dtype=np.int64), *each]) for each in (better, worse))
    rows = numbering.rows[best]
    labels = np.where(forms[rows] == "pair", said[best], 1.0)
    return Ordered(rows, best, rest, rewards[best] - rewards[rest], labels)

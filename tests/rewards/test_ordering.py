"""The margin of an example with any number of responses: by hand, and against a loop over its pairs of responses."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.data.numbering import Numbering
from seralign.data.table import read_table, write_examples
from seralign.data.table_columns import pair_labels
from seralign.records import Example, Label, Pair, Preference, Prompt, Ranking, Response, Scores
from seralign.rewards.ordering import Ordering, length_difference, ordering_of
from seralign.rewards.scored_pairs import scored_pairs


def ordering(rows: list[list[float]]) -> Ordering:
    """Examples whose responses have these worths."""
    numbering = Numbering(np.array([len(row) for row in rows], dtype=np.int64))
    return Ordering(numbering, in_numbers(numbering, rows))


def in_numbers(numbering: Numbering, rows: list[list[float]]) -> np.ndarray:
    return np.array(
        [rows[row][place] for row, place in zip(numbering.rows, numbering.places, strict=True)], dtype=float
    )


def test_worked_by_hand() -> None:
    three, tied, pair = [-1.0, -2.0, -3.0], [-1.0, -2.0, -2.0], [0.0, -1.0]
    found = ordering([three, tied, pair, [1.0], [2.0, 2.0]])
    values = in_numbers(found.numbering, [[5.0, 1.0, 3.0], [5.0, 1.0, 3.0], [2.0, 7.5], [9.0], [1.0, 8.0]])
    assert found.margin(values).tolist() == pytest.approx([4 / 3, 3.0, -5.5, 0.0, 0.0])
    assert found.pairs.tolist() == [3, 2, 1, 0, 0]
    best, worst = (found.numbering.places[numbers].tolist() for numbers in found.ends)
    assert (best, worst) == ([0, 0, 0, 0, 0], [2, 2, 1, 0, 1])


RANKED = st.lists(st.tuples(st.integers(0, 3), st.floats(-50, 50)), min_size=1, max_size=6)


@given(st.lists(RANKED, min_size=1, max_size=5))
def test_it_is_the_mean_over_the_ordered_pairs_in_any_order(rows: list[list[tuple[int, float]]]) -> None:
    worths, values = ([[each[part] for each in row] for row in rows] for part in (0, 1))
    found = ordering([[float(worth) for worth in row] for row in worths])
    margins = found.margin(in_numbers(found.numbering, values))
    for row, margin in zip(rows, margins, strict=True):
        apart = [np.sign(a[0] - b[0]) * (a[1] - b[1]) for a, b in combinations(row, 2) if a[0] != b[0]]
        assert margin == pytest.approx(np.mean(apart) if apart else 0.0, abs=1e-9)
    turned = ordering([[float(worth) for worth in row[::-1]] for row in worths])
    again = turned.margin(in_numbers(turned.numbering, [row[::-1] for row in values]))
    np.testing.assert_allclose(again, margins, atol=1e-9)


def test_of_two_responses_it_is_their_difference_to_the_last_bit() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 500)) * 100
    for better in (0, 1):
        worth = np.repeat([1.0 - better, float(better)], 500)
        margins = Ordering(Numbering(np.full(500, 2)), worth).margin(np.concatenate([first, second]))
        assert np.array_equal(margins, second - first if better else first - second)


def table_of(folder: Path, preferences: list[Preference]):
    prompt = Prompt("p", "ask", (1, 2))
    lengths = (4, 1, 2)
    examples = [
        Example(
            f"e{number}", prompt,
            tuple(Response("x", (3,) * lengths[place]) for place in range(len(preference.stored))), preference,
        )
        for number, preference in enumerate(preferences)
    ]  # fmt: skip
    write_examples(folder / "table.arrow", examples)
    return read_table(folder / "table.arrow")


def test_pairs_rankings_and_scores_of_a_table(tmp_path: Path) -> None:
    """A pair's first response is the better one whatever p is; ranks are best lowest, scores best highest."""
    table = table_of(tmp_path, [Pair(0.3), Ranking((3, 1, 2)), Scores((0.5, -1.0, 2.0)), Ranking((2, 1))])
    found = ordering_of(table)
    best, worst = (found.numbering.places[numbers].tolist() for numbers in found.ends)
    assert (best, worst) == ([0, 1, 2, 1], [1, 0, 1, 0])
    # Lengths 4, 1, 2: 4 - 1; (1 - 2 + 1 - 4 + 2 - 4) / 3; (2 - 4 + 2 - 1 + 4 - 1) / 3; 1 - 4.
    assert length_difference(table).tolist() == pytest.approx([3.0, -2.0, 2 / 3, -3.0])
    assert pair_labels(table).tolist() == [0.3, 1.0, 1.0, 1.0]
    scored = scored_pairs(table, np.arange(4))
    assert np.asarray(scored.chosen_lengths).tolist() == [4, 1, 2, 1]
    assert np.asarray(scored.rejected_lengths).tolist() == [1, 4, 1, 4]


def test_labels_order_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only pairs, rankings and scores order responses, got label"):
        ordering_of(table_of(tmp_path, [Label(True)]))

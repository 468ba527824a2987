"""Tables of examples whose preferences are joined by prompt and converted."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from datasets import Dataset
from test_convert import example

from seralign.config import ConvertConfig
from seralign.data.table import read_table, to_example, write_examples
from seralign.errors import ConfigError, DataError
from seralign.preferences.converting import convert_table
from seralign.records import Example, Label, Pair, Preference, Ranking, Scores
from seralign.runs.data_figures import SourceFigures

FIGURES = SourceFigures("f.jsonl", 9, 9, {}, {}, {}, 0.0, (), ())


def converted(
    folder: Path, examples: list[Example], **convert: object
) -> tuple[list[tuple[str, str, Preference]], dict[str, int]]:
    """Id, responses and preference of each example, and the counts."""
    path = folder / "pairs.arrow"
    write_examples(path, examples, ["annotator"])
    table, figures = convert_table(path, read_table(path), ConvertConfig(**convert), ["annotator"], FIGURES)  # pyright: ignore
    assert not list(folder.glob("*.before"))
    return [_plain(table, row) for row in range(len(table))], figures.converted


def _plain(table: Dataset, row: int) -> tuple[str, str, Preference]:
    made = to_example(table[row])  # pyright: ignore
    return made.example_id, "".join(response.text for response in made.responses), made.preference


def test_single_scores_of_a_prompt_are_one_example_with_the_best_first(tmp_path: Path) -> None:
    rows = [
        example("a", Scores((1.0,)), "1", "p"), example("b", Scores((5.0,)), "2", "q"),
        example("c", Scores((3.0,)), "3", "p"),
    ]  # fmt: skip
    found, counts = converted(tmp_path, rows)
    assert found == [("1", "ca", Scores((3.0, 1.0))), ("2", "b", Scores((5.0,)))]
    assert counts == {"single responses joined by prompt": 1}


def test_scores_become_soft_pairs_with_a_temperature(tmp_path: Path) -> None:
    rows = [example("a", Scores((1.0,)), "1", "p"), example("c", Scores((3.0,)), "3", "p"),
            example("b", Scores((5.0,)), "2", "q")]  # fmt: skip
    found, counts = converted(tmp_path, rows, scores="all_pairs", temperature=2.0)
    # sigmoid((3 - 1) / 2)
    assert found == [("1/0-1", "ca", Pair(1 / (1 + math.exp(-1.0))))]
    assert counts == {
        "single responses joined by prompt": 1, "made of scores by data.convert.scores: all_pairs": 1,
        "scores with nothing to compare": 1,
    }  # fmt: skip
    assert converted(tmp_path, rows[:2], scores="all_pairs", min_margin=2.0)[0] == [("1/0-1", "ca", Pair(1.0))]
    with pytest.raises(DataError, match=r"^f.jsonl: no example is left after data.convert: .*nothing to compare 1"):
        converted(tmp_path, rows[:2], scores="all_pairs", min_margin=2.1)


def test_scores_become_rankings_or_labels(tmp_path: Path) -> None:
    rows = [example("ab", Scores((3.0, 1.0)), "1"), example("cd", Scores((2.0, 2.0)), "2")]
    found, counts = converted(tmp_path, rows, scores="ranking")
    assert found == [("1", "ab", Ranking((1, 2)))]
    assert counts["scores with nothing to compare"] == 1
    found, _ = converted(tmp_path, rows, scores="labels", threshold=2.0)
    assert found == [
        ("1/0", "a", Label(True)), ("1/1", "b", Label(False)), ("2/0", "c", Label(True)), ("2/1", "d", Label(True)),
    ]  # fmt: skip


def test_rankings_become_pairs_and_identical_responses_none(tmp_path: Path) -> None:
    rows = [example("abc", Ranking((1, 2, 3)), "r"), example("aa", Ranking((1, 2)), "s")]
    found, counts = converted(tmp_path, rows, ranking="adjacent_pairs")
    assert found == [("r/0-1", "ab", Pair()), ("r/1-2", "bc", Pair())]
    assert counts == {"made of ranking by data.convert.ranking: adjacent_pairs": 2, "pair of identical responses": 1}


def test_single_ranks_are_joined_and_checked(tmp_path: Path) -> None:
    rows = [
        example("b", Ranking((1,)), "1", "p"), example("a", Ranking((0,)), "2", "p"),
        example("c", Ranking((2,)), "3", "p"),
        example("d", Ranking((1,)), "4", "hole"), example("e", Ranking((3,)), "5", "hole"),
        example("f", Ranking((1,)), "6", "tie"), example("g", Ranking((1,)), "7", "tie"),
        example("h", Ranking((1,)), "8", "alone"),
    ]  # fmt: skip
    found, counts = converted(tmp_path, rows)
    assert found == [("1", "abc", Ranking((1, 2, 3)))]
    assert counts == {
        "single responses joined by prompt": 3, "ranking with a hole in its ranks": 1,
        "all responses of the prompt tied": 1, "rank of the only response of its prompt": 1,
    }  # fmt: skip


def test_equal_responses_of_different_ranks_are_counted(tmp_path: Path) -> None:
    rows = [
        example("a", Ranking((1,)), "1", "p"), example("a", Ranking((2,)), "2", "p"),
        example("a", Ranking((1,)), "3", "q"), example("b", Ranking((2,)), "4", "q"),
    ]  # fmt: skip
    found, counts = converted(tmp_path, rows)
    assert [name for name, _, _ in found] == ["3"]
    assert counts == {
        "single responses joined by prompt": 2, "ranking with equal responses of different ranks": 1
    }  # fmt: skip
    scored = [
        example("a", Scores((1.0,)), "1", "p"), example("a", Scores((2.0,)), "2", "p"),
        example("a", Scores((2.0,)), "3", "q"), example("b", Scores((1.0,)), "4", "q"),
    ]  # fmt: skip
    found, counts = converted(tmp_path, scored, scores="ranking")
    assert [name for name, _, _ in found] == ["3"]
    assert counts["ranking with equal responses of different ranks"] == 1


def test_labels_of_a_prompt_become_pairs_and_pairs_become_labels(tmp_path: Path) -> None:
    rows = [
        example("a", Label(False), "1", "p"),
        example("b", Label(True), "2", "q"),
        example("c", Label(True), "3", "p"),
    ]
    found, counts = converted(tmp_path, rows, label="pairs")
    assert found == [("3/1", "ca", Pair())]
    assert counts == {"made of label by data.convert.label: pairs": 1, "label with nothing to compare": 1}
    assert converted(tmp_path, [example("ab", Pair(0.8), "x")], pair="labels")[0] == [
        ("x/0", "a", Label(True)), ("x/1", "b", Label(False)),
    ]  # fmt: skip


def test_a_mixed_table_becomes_one_form(tmp_path: Path) -> None:
    rows = [
        example("ab", Pair(0.9), "p"),
        example("abc", Ranking((1, 1, 2)), "r"),
        example("ab", Scores((2.0, 1.0)), "s"),
    ]
    found, _ = converted(tmp_path, rows, pair="ranking", scores="ranking")
    assert [(name, preference) for name, _, preference in found] == [
        ("p", Ranking((1, 2))), ("r", Ranking((1, 1, 2))), ("s", Ranking((1, 2))),
    ]  # fmt: skip


def test_what_is_not_named_stays_as_it_is(tmp_path: Path) -> None:
    rows = [example("ab", Pair(0.9), "p"), example("abc", Ranking((1, 1, 2)), "r"), example("a", Label(True), "l")]
    path = tmp_path / "pairs.arrow"
    write_examples(path, rows, ["annotator"])
    before = path.read_bytes()
    table, figures = convert_table(path, read_table(path), ConvertConfig(scores="ranking"), ["annotator"], FIGURES)
    assert figures is FIGURES
    assert [to_example(table[row]) for row in range(3)] == rows  # pyright: ignore
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0, "scores": "all_pairs"}, "temperature"),
        ({"temperature": 1.0}, "temperature: it is of pairs of scores"),
        ({"min_margin": 1.0, "scores": "ranking"}, "min_margin: it is of pairs of scores"),
        ({"min_margin": -1.0}, "min_margin"),
        ({"scores": "labels"}, "scores and threshold: scores: labels needs threshold"),
        ({"threshold": 1.0}, "scores and threshold"),
    ],
)
def test_settings_without_a_use_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        ConvertConfig(**given)  # pyright: ignore

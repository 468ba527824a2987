"""What the report reads of a run's folder: the pairs' table row by row, figures, and runs that lack something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hand_made import (
    add_data,
    add_generated,
    add_mix,
    add_policy,
    add_review,
    add_stage,
    add_tokens,
    add_training,
    interval,
    new_run,
    pair,
    selection,
    whole_run,
)

from seralign.data.table import write_examples
from seralign.errors import StoreError
from seralign.records import oriented
from seralign.report.charts import Over
from seralign.report.charts_pairs import pair_charts
from seralign.report.charts_training import work_charts
from seralign.report.contents import run_contents
from seralign.report.facts import facts
from seralign.report.figures import figures_json, run_figures, training_metrics
from seralign.report.page import write_report
from seralign.report.pairs import DROPPED, LEFT_OUT, sample_pairs
from seralign.report.reviews import reviews
from seralign.report.summary import rounds_table
from seralign.runs import Run, read_run
from seralign.runs.figures import CrossfitFigures, DecideFigures, TokensFigures
from seralign.runs.files import write_table
from seralign.runs.typed import to_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return whole_run(tmp_path_factory.mktemp("whole") / "run")


def rows_of(table: pa.Table | None) -> dict[str, dict[str, Any]]:
    assert table is not None
    return {row["example_id"]: row for row in table.to_pylist()}


# --- pairs


def test_each_pair_is_one_row_with_what_the_rounds_thought_of_it(run: Run) -> None:
    contents = run_contents(run)
    rows = rows_of(contents.pairs)
    assert list(rows) == ["a", "b", "c", "d", "round2-x", "round3-y"]
    assert contents.pairs_total == 6
    a = rows["a"]
    assert (a["origin"], a["p"], a["prompt"], a["chosen"], a["rejected"]) == ("offline", 0.75, "Ask a", "good", "bad")
    assert (a["chosen_length"], a["rejected_length"]) == (4, 3)
    # Rounds 2 and 3, in this order.
    assert rows["a"]["margins"] == [4.0, 1.0]
    assert rows["b"]["margins"] == [3.0, 5.0]
    assert rows["d"]["kept"] == ["below the top 50%", "below the top 50%"]
    assert rows["c"]["kept"] == ["below the top 50%", "kept"]


def test_labels_are_those_that_rounds_train_with(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    add_data(run, [pair("a"), pair("b")])
    review = CrossfitFigures(2, 2, 2, 1.0, 0.6, 0.5, 0.5)
    folder = run.begin("crossfit/review", {})
    write_table(folder / "review.parquet", {"example_id": ["b", "a"], "kept": [True, False]})
    write_examples(folder / "pairs.arrow", [oriented(pair("a"), 0.9), oriented(pair("b"), 0.4)])
    run.commit("crossfit/review", {}, to_json(review), 1.0)
    add_generated(run, 2, [pair("round2-x", "generated:2")], selection({"round2-x": 1.0}, ["round2-x"]))
    rows = rows_of(run_contents(run).pairs)

    assert {name: row["p"] for name, row in rows.items()} == {"a": 0.9, "b": 0.6, "round2-x": 0.75}
    assert (rows["b"]["chosen"], rows["b"]["rejected"]) == ("bad", "good")
    # No round had pair a; b was not among those that this one selected from.
    assert {name: row["kept"] for name, row in rows.items()} == {"a": [DROPPED], "b": [None], "round2-x": ["selected"]}


def test_kept_means_trained_on(run: Run) -> None:
    """Round 2 selects a and b, but its mix has no room for b."""
    rows = rows_of(run_contents(run).pairs)
    assert rows["a"]["kept"][0] == "kept"
    assert rows["b"]["kept"] == [LEFT_OUT, "kept"]


def test_a_generated_pair_is_known_to_its_own_round_alone(run: Run) -> None:
    rows = rows_of(run_contents(run).pairs)
    made = rows["round2-x"]
    assert (made["origin"], made["margins"], made["kept"]) == ("generated:2", [5.0, None], ["kept", None])
    assert made["disagreement"] is None, "one policy reviewed round 2"
    later = rows["round3-y"]
    assert (later["margins"], later["kept"], later["disagreement"]) == ([None, 7.0], [None, "kept"], 0.5)
    assert later["chosen_length"] == len("better")


def test_disagreement_is_that_of_the_last_round_with_two_policies(run: Run) -> None:
    rows = rows_of(run_contents(run).pairs)
    assert {name: rows[name]["disagreement"] for name in "abcd"} == {"a": 0.25, "b": 1.25, "c": 1.0, "d": 0.125}


def test_tokens_are_those_of_the_last_round_that_looked_at_the_pair(run: Run) -> None:
    rows = rows_of(run_contents(run).pairs)
    assert {name: row["tokens_round"] for name, row in rows.items()} == {
        "a": 3, "b": None, "c": None, "d": 1, "round2-x": 2, "round3-y": 3
    }  # fmt: skip
    assert rows["a"]["chosen_ratios"] == [1.5, 1.5]
    assert rows["d"]["rejected_ratios"] == [0.5, 0.5]
    assert "".join(rows["a"]["chosen_tokens"]) == "good"
    assert rows["b"]["chosen_tokens"] is None
    assert rows["b"]["rejected_ratios"] is None


def test_pairs_beyond_the_limit_are_left_in_the_tables(run: Run) -> None:
    contents = run_contents(run, limit=5)
    # The four with tokens, and one of the two without.
    assert list(rows_of(contents.pairs)) == ["a", "b", "d", "round2-x", "round3-y"]
    assert contents.pairs_total == 6
    assert set(contents.tables) >= {"data/pairs.arrow", "round-3/bootstrap/generated.arrow",
                                    "round-2/select/selection.parquet", "round-3/tokens/tokens.parquet"}  # fmt: skip
    for name in contents.tables:
        assert (run.root / name).is_file()


def test_a_sample_is_spread_over_the_table() -> None:
    rounds = pa.array([1 if row in (3, 50) else None for row in range(100)], pa.int32())
    table = pa.table({"example_id": [str(row) for row in range(100)], "tokens_round": rounds})
    found = [int(row["example_id"]) for row in sample_pairs(table, 12).to_pylist()]
    assert len(found) == 12
    assert {3, 50} <= set(found)
    assert found == sorted(found)
    assert np.diff(found).max() <= 12
    assert len(sample_pairs(table, 1)) == 1
    assert sample_pairs(table, 100) is table


def test_any_text_comes_back_as_it_is(tmp_path: Path) -> None:
    texts = ["<script>alert(1)</script>", "\x00\x1b[31m", "\u202eright to left", "\U0001f984 \ufffd", "\r\n\t"]
    run = new_run(tmp_path / "run")
    add_data(run, [pair(str(number), chosen=text) for number, text in enumerate(texts)])
    rows = rows_of(run_contents(run).pairs)
    assert [row["chosen"] for row in rows.values()] == texts


# --- the rest


def test_metrics_of_every_training_by_name(run: Run) -> None:
    assert list(training_metrics(run)) == ["round 1", "round 2", "round 3"]
    contents = run_contents(run)
    assert contents.training["round 2"] == [{"loss": 0.7, "step": 1}, {"loss": 0.6, "step": 2}]
    assert contents.name == "run"
    assert contents.config["data"]["pairs"]["path"] == "pairs.jsonl"


def test_figures_hold_the_warnings_and_go_through_json(run: Run) -> None:
    contents = run_contents(run)
    figures = contents.figures
    assert figures == run_figures(run)
    # Round 3 asked for half of its pairs to be generated: a third is more than half of that.
    assert figures.warnings == ()
    assert figures.rounds[2].tokens == TokensFigures(2)
    content = json.loads(json.dumps(figures_json(figures), allow_nan=False))
    assert (content["finished"], content["result"]["policy"], content["notes"]) == (True, "round 3", [*figures.notes])
    assert [(entry["round"], entry["tokens"]) for entry in content["rounds"]] == [(n, {"pairs": 2}) for n in (1, 2, 3)]
    assert [(policy["role"], policy["name"]) for policy in content["policies"][:2]] == [
        ("initial", "initial"),
        ("round-1", "round 1"),
    ]


def test_a_round_with_next_to_no_generated_pairs_has_an_warning(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    add_data(run, [pair("a")])
    add_generated(run, 2, [pair("round2-x", "generated:2")], selection({"round2-x": 1.0}, ["round2-x"]))
    add_mix(run, 2, {"a": True, "round2-x": True}, share=0.1, wanted=0.3)
    (warning,) = run_contents(run).figures.warnings
    assert (warning.kind, warning.where, warning.value, warning.limit) == ("few", "round 2", 0.1, 0.15)


def notes_of(run: Run) -> str:
    contents = run_contents(run)
    return " ".join(contents.figures.notes)


def test_a_run_that_only_began(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    contents = run_contents(run)
    assert contents.pairs is None
    assert (contents.pairs_total, contents.tables, contents.training, contents.figures.warnings) == (0, (), {}, ())
    assert "no stage has finished" in notes_of(run)


def test_a_run_killed_after_its_data(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    add_data(run, [pair("a"), pair("b")])
    run.begin("round-1/train", {})
    contents = run_contents(run)
    assert [row["margins"] for row in rows_of(contents.pairs).values()] == [[], []]
    assert "has not finished: the last finished stage is data" in notes_of(run)
    assert "No round has been trained yet" in notes_of(run)


def test_a_run_killed_between_selection_and_mix(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    add_data(run, [pair("a"), pair("b")])
    add_training(run, "round-1/train", [])
    add_review(run, 2, selection({"a": 2.0, "b": 1.0}, "a"))
    rows = rows_of(run_contents(run).pairs)
    assert [rows[name]["kept"] for name in "ab"] == [["selected"], ["below the top 50%"]]
    assert rows["a"]["disagreement"] is None
    add_mix(run, 2, {"a": False})
    assert rows_of(run_contents(run).pairs)["a"]["kept"] == [LEFT_OUT]


def test_what_a_round_would_train_on_is_selected_and_no_more(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    add_data(run, [pair("a"), pair("b"), pair("c")])
    add_training(run, "round-1/train", [{"loss": 2.0, "step": 1}])
    add_review(run, 2, selection({"a": 2.0, "b": 1.0, "c": 0.5}, "ab"), margin_length_correlation=0.5)
    contents = run_contents(run)
    (review,) = reviews(contents)
    assert (review.trained, review.kept.tolist()) == (False, [True, True, False])
    margins, lengths, correlations = pair_charts([contents], Over(("run",)))
    assert [key.label for key in margins.legend] == ["selected, offline", "selected, generated", "dropped"]
    assert [chart.panels[0].title for chart in (margins, lengths)] == ["Round 2, not trained"] * 2
    for chart in (margins, lengths, correlations):
        assert chart.table is not None
        words = " ".join((*chart.table.columns, *chart.table.rows[-1], *(key.label for key in chart.legend)))
        assert "trained on" not in words
        assert "round 2, not trained: selected" in words
    (shares,) = [chart for chart in work_charts([contents], Over(("run",))) if chart.key == "shares"]
    assert "round 2" not in str(shares.table)
    add_training(run, "round-2/train", [{"loss": 2.0, "step": 1}])
    assert rows_of(run_contents(run).pairs)["a"]["kept"] == ["kept"]
    assert pair_charts([run_contents(run)], Over(("run",)))[0].legend[0].label == "trained on, offline"


def test_a_run_that_has_not_finished_says_how_to_go_on(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    add_data(run, [pair("a"), pair("b")])
    add_training(run, "round-1/train", [{"loss": 2.0, "step": 1}])
    add_stage(run, "round-1/decide", DecideFigures(False, "continue", 1, None))
    add_review(run, 2, selection({"a": 2.0, "b": 1.0}, "a"))
    lines = dict(facts(run_contents(run)))["Why it stopped"]
    assert lines == [
        "It has not finished: the last finished stage is round-2/select",
        "Give the same command again to resume it",
    ]
    rounds = rounds_table(run_contents(run))
    assert rounds is not None
    assert rounds.rows[1][:2] == ("Round 2", "1 of 2")
    write_report([run_contents(run)], tmp_path / "report.html")
    assert '<p class="unfinished"><strong>This run has not finished.' in (tmp_path / "report.html").read_text()


def test_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("a page")
    with pytest.raises(StoreError, match=r"report\.html: this is a file; give the folder of a run"):
        read_run(tmp_path / "report.html")


def test_a_supervised_run_alone(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", rounds=1, objective={"name": "sft"})
    add_data(run, [pair("a")], heldout=0)
    add_training(run, "sft", [{"loss": 2.0, "step": 1}])
    add_policy(run, "initial", "initial")
    add_training(run, "round-1/train", [{"loss": 2.0, "step": 1}])
    add_policy(run, "round-1", "round 1")
    contents = run_contents(run)
    assert list(contents.training) == ["sft", "round 1"]
    assert contents.figures.warnings == ()
    notes = notes_of(run)
    for words in ("objective is sft", "No scorer", "Nothing is held out"):
        assert words in notes


def test_what_a_finished_run_lacks_is_said(tmp_path: Path, run: Run) -> None:
    assert notes_of(run) == (
        "Only 10 pairs held out and 2 answers to held-out prompts: held-out figures of so few are mostly chance. Hold "
        "out more pairs (data.heldout_fraction, data.heldout), and have more prompts answered (evaluation.prompts)."
    )
    enough = new_run(tmp_path / "enough", rounds=1)
    add_data(enough, [pair("a")], heldout=20)
    assert "Only" not in notes_of(enough)
    one = new_run(tmp_path / "one", rounds=1)
    add_data(one, [pair("a")], heldout=1)
    assert "Only 1 pair held out: held-out figures of so few are mostly chance. Hold out more pairs" in notes_of(one)
    assert "evaluation.prompts" not in notes_of(one)
    bare = new_run(tmp_path / "run", bootstrap=None, rounds=2)
    add_data(bare, [pair("a"), pair("b")])
    add_policy(bare, "initial", "initial", n=0, length=None, distinct_2=None, repetition=None, unfinished=None)
    add_training(bare, "round-1/train", [{"loss": 2.0, "step": 1}])
    assert "No generated pairs: bootstrap is null" in notes_of(bare)
    assert "No answers were sampled" in notes_of(bare)
    made = new_run(tmp_path / "made")
    add_data(made, [pair("a")])
    add_training(made, "round-1/train", [{"loss": 2.0, "step": 1}])
    add_generated(made, 2, [], selection({}, []), left_out={"unfinished": 8})
    assert "Round 2 made no pairs: 8 unfinished." in notes_of(made)


def test_a_harmed_table_is_one_clear_error(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    path = run.path("round-2/bootstrap", "generated.arrow")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StoreError, match=r"generated\.arrow: .* Delete the folder .*round-2/bootstrap"):
        run_contents(run)
    (run.path("round-1/train", "metrics.jsonl")).write_text("{", encoding="utf-8")
    with pytest.raises(StoreError, match=r"metrics\.jsonl: "):
        run_figures(run)


def test_a_run_without_token_columns(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    add_data(run, [pair("a")])
    rows = rows_of(run_contents(run).pairs)
    assert rows["a"]["tokens_round"] is None
    add_tokens(run, 1, [], 0.0)
    assert rows_of(run_contents(run).pairs)["a"]["chosen_tokens"] is None


def test_win_rates_of_the_result_are_those_shown(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    add_policy(run, "initial", "initial", score=interval(0.0))
    add_policy(run, "round-1", "round 1", score=interval(1.0))
    rates = {"round 1": {"initial": interval(0.4, 0.05)}}
    found = run_figures(run, rates)
    assert found.policies[1].figures.win_rates["initial"].mean == 0.4
    assert [warning.kind for warning in found.warnings] == ["harm"]

"""Labellings that write rankings and scores: their rows, what is refused, and runs that are trained on them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from text_model import save_text_model

from seralign.cli.main import main
from seralign.config import load_config
from seralign.config.unread import check_read
from seralign.data.formats import read_example
from seralign.data.raw import RawExample
from seralign.errors import ConfigError, DataError
from seralign.preferences.config import label_config
from seralign.preferences.figures import LabelFigures, tables
from seralign.preferences.labelling import label
from seralign.records import Ranking, Scores
from seralign.runs import read_run
from seralign.runs.files import read_stream

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(rows: list[Row], write: str, *signals: Row, data: Row | None = None, **values: Any) -> LabelFigures:
    Path("raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"out": "out.jsonl", "limits": {"processes": 1}, "write": write} | values
    given |= {"data": {"path": "raw.jsonl"} | ({"responses": "responses"} if data is None else data)}
    return label(label_config(given | {"signals": list(signals)}))


def written() -> list[Row]:
    return [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]


def example_of(row: Row) -> RawExample:
    found = read_example(row, "out.jsonl row 1")
    assert isinstance(found, RawExample)
    return found


def test_a_ranking_has_all_responses_the_best_first() -> None:
    rows = [
        {"prompt": "q", "responses": ["a", "b", "c", "d"], "ratings": [1, 3, None, 1], "by": "ann", "system": "Be."},
        {"prompt": "r", "responses": ["a", "b"], "ratings": [2, 2], "by": "bob"},
    ]
    figures = run(rows, "rankings", {"name": "ratings", "temperature": 2.0}, keep_columns=["by"])
    [row] = written()
    assert row == {
        "prompt": "q",
        "responses": ["b", "a", "d"],
        "ranks": [1, 2, 2],
        "system": "Be.",
        "label_signal": "ratings",
        "label_source": "raw.jsonl row 1, responses 1, 0, 3",
        "label_values": '{"ratings": [3.0, 1.0, 1.0]}',
        "by": "ann",
    }
    read = example_of({name: value for name, value in row.items() if name != "system"})
    assert (read.responses, read.preference) == (("b", "a", "d"), Ranking((1, 2, 2)))
    assert (figures.write, figures.written, figures.soft, figures.tied) == ("rankings", 1, None, 1.0)
    assert figures.dropped == {"ranking in which all responses are tied": 1}
    first = next(tables(figures)).rows
    assert ("rankings", "1") in first
    assert ("rankings with ties", "100.0%") in first
    assert json.loads(Path("out.label.json").read_text())["configuration"]["write"] == "rankings"


def test_a_ranking_of_votes_keeps_the_ballots_and_the_columns_of_each_response() -> None:
    """Each response has a row of its own; columns of these rows become lists."""
    rows = [
        {"prompt": "q", "response": text, "votes": votes, "model": model}
        for text, votes, model in (("a", 1, "small"), ("b", 3, "large"), ("c", 0, "tiny"))
    ]
    run(rows, "rankings", {"name": "votes"}, data={"response": "response"}, keep_columns=["model"])
    [row] = written()
    assert (row["responses"], row["ranks"], row["model"]) == (["b", "a", "c"], [1, 2, 3], ["large", "small", "tiny"])
    ballots = json.loads(row["label_values"])["votes"]
    assert [(one["responses"], one["first_better"], one["weight"]) for one in ballots] == [
        ([1, 0], 0.25, 4.0), ([1, 2], 1.0, 1.0), ([0, 2], 1.0, 3.0)]  # fmt: skip
    assert example_of(row).preference == Ranking((1, 2, 3))


def test_objects_give_lists_of_their_own_columns_alone() -> None:
    answers = [{"answer": "bad", "rank": 2, "model": "small"}, {"answer": "good", "rank": 1}]
    rows = [{"prompt": "q", "answers": answers, "source": "web"}]
    data, keep = {"responses": "answers", "text": "answer"}, ["source", "model"]
    run(rows, "rankings", {"name": "ranking", "column": "rank"}, data=data, keep_columns=keep, out="out.parquet")
    [row] = pq.read_table("out.parquet").to_pylist()
    assert (row["responses"], row["source"], row["model"]) == (["good", "bad"], "web", [None, "small"])
    assert example_of(row).preference == Ranking((1, 2))


def test_each_response_has_a_score() -> None:
    chat = [{"role": "user", "content": "Hi"}]
    replies = [[{"role": "assistant", "content": text}] for text in ("Hello!", "What?", "?")]
    rows = [{"prompt": chat, "responses": replies, "ratings": [5, 2, None], "by": "ann"}]
    figures = run(rows, "scores", {"name": "ratings", "temperature": 2.0}, keep_columns=["by"])
    first, second = written()
    assert first == {
        "prompt": chat,
        "response": replies[0],
        "score": 2.5,
        "label_signal": "ratings",
        "label_source": "raw.jsonl row 1, response 0",
        "label_values": '{"ratings": 5.0}',
        "by": "ann",
    }
    assert (second["response"], second["score"]) == (replies[1], 1.0)
    assert example_of(first).preference == Scores((2.5,))
    assert (figures.write, figures.written, figures.soft, figures.tied) == ("scores", 2, None, None)
    assert figures.signals[0].missing == {"no rating": 1}


def test_votes_are_scores_whose_differences_are_log_odds() -> None:
    """3 of 4 votes give p = 4 / 6 and log-odds of log 2."""
    rows = [{"prompt": "q", "responses": ["a", "b"], "votes": [1, 3]}]
    run(rows, "scores", {"name": "votes"})
    first, second = written()
    assert (first["score"], second["score"]) == pytest.approx((-math.log(2) / 2, math.log(2) / 2))
    said = json.loads(first["label_values"])
    assert said == {"votes": [{"annotator": None, "than": 1, "better": 0.25, "weight": 4.0}]}


def test_nothing_to_write_is_an_error_that_says_why() -> None:
    rows = [{"prompt": "q", "responses": ["a", "b"], "ratings": [1, 1]}]
    message = "no ranking can be made of 1 prompts: ranking in which all responses are tied 1"
    with pytest.raises(DataError, match=message):
        run(rows, "rankings", {"name": "ratings"})
    rows[0]["ratings"] = [None, None]
    with pytest.raises(DataError, match="no score can be made of 1 prompts: no response with a value 1"):
        run(rows, "scores", {"name": "ratings"}, out="other.jsonl")
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"write": "labels"}, "^write must be one of pairs, rankings, scores, got 'labels'$"),
        ({"write": "rankings", "pairs": {"rule": "best_worst"}},
         "^pairs.rule is of pairs, and write is rankings; leave it out$"),
        ({"write": "scores", "pairs": {"goal": "{score}"}}, "^pairs.goal is of pairs, and write is scores; leave it "),
        ({"write": "rankings", "pairs": {"min_margin": 1.0}}, "^pairs.min_margin is of pairs, and write is rankings"),
        ({"write": "scores", "pairs": {"hard": True}}, "^pairs.hard is of pairs, and write is scores; leave it out$"),
        ({"write": "scores", "keep_columns": ["label"]},
         "^keep_columns must be without names of columns that train reads, with write: scores, got 'label'$"),
        ({"write": "rankings", "keep_columns": ["response_a"]},
         "^keep_columns must be without names of columns that train reads, with write: rankings, got 'response_a'$"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(changes: Row, message: str) -> None:
    values = {"out": "o.jsonl", "data": {"path": "r.jsonl", "responses": "responses"}, "signals": [{"name": "ratings"}]}
    with pytest.raises(ConfigError, match=message):
        label_config(values | changes)


RAW = [
    {"prompt": f"question {number} ", "responses": ["yes", "no", "perhaps"], "ratings": [number % 4, 1, 3]}
    for number in range(8)
]
TRAINED: dict[str, tuple[list[str], str, int]] = {
    "rankings": (["--objective.name", "plackett_luce"], "ranking", 8),
    # Ratings 0, 1, 3 and 2, 1, 3 give three pairs; 1, 1, 3 and 3, 1, 3 have a tie and give two.
    "scores": (
        ["--objective.name", "irepo", "--data.convert.scores", "all_pairs", "--data.convert.temperature", "1.0"],
        "pair", 20,
    ),
}  # fmt: skip


@pytest.mark.parametrize("write", TRAINED)
def test_raw_rows_are_labelled_and_trained_on(write: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_text_model(Path("model"), chat_template=None)
    Path("raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in RAW))
    Path("label.yaml").write_text(
        "out: labelled.jsonl\ndata: {path: raw.jsonl, responses: responses}\n"
        "signals: [{name: ratings, temperature: 2.0}]\nlimits: {processes: 1}\n"
    )
    assert main(["label", "label.yaml", "--write", write]) == 0
    printed = capsys.readouterr().out
    assert f"labelled.jsonl: {8 if write == 'rankings' else 24} {write}. To train on them:" in printed
    told = "".join(f"{line}\n" for line in printed.splitlines() if line.startswith("  ") and ":" in line)
    advised = load_config(None, yaml.safe_load(told) | {"out": "x", "policy.model": "model"})
    check_read(advised)
    assert advised.objective.name == ("plackett_luce" if write == "rankings" else "reward_scores")
    flags, form, count = TRAINED[write]
    command = ["train", "--out", "run", "--policy.model", "model", "--data.pairs.path", "labelled.jsonl", "--rounds",
               "1", "--evaluation.prompts", "0", "--data.heldout_fraction", "0", "--training.max_steps", "2",
               "--data.keep_columns", "[label_values, label_source]", *flags]  # fmt: skip
    assert main(command) == 0
    table = read_stream(Path("run/data/pairs.arrow"))
    assert (set(table["form"].to_pylist()), len(table)) == ({form}, count)
    assert all(source.startswith("raw.jsonl row ") for source in table["carried.label_source"].to_pylist())
    digests = [json.loads(Path("run", at, "stage.json").read_text())["figures"] for at in ("policies", "result")]
    assert digests[0]["initial"]["digest"] != digests[1]["digest"]
    assert read_run(Path("run")).record("result") is not None
    if form == "pair":
        # Ratings 3 and 1 with a temperature of 2: scores 1.5 and 0.5, and their difference is the log-odds again.
        of_first = [p for p, _ in table["preference"].to_pylist()[:3]]
        assert sorted(of_first) == pytest.approx(sorted(1 / (1 + math.exp(-d)) for d in (0.5, 1.0, 1.5)))

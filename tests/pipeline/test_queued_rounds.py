"""A run whose generated pairs are labelled in a file: it waits, refuses wrong labels, and resumes with right ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pipeline.test_judged_rounds import LOOP
from small_run import small_config
from tiny import as_pairs

from seralign.cli.main import main
from seralign.config import to_yaml
from seralign.data.table import read_table as read_examples
from seralign.errors import AwaitingLabels, DataError
from seralign.pipeline import train
from seralign.pipeline.queueing import _write_queried
from seralign.records import Pair
from seralign.rewards.pairing import Contrast
from seralign.runs.files import read_table
from seralign.runs.layout import COLUMNS, LABELS, QUERIED

QUEUED = LOOP | {
    "bootstrap": LOOP["bootstrap"] | {"labels": "queue", "query": {"budget": 4, "strategy": "coreset"}},
}


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_run_waits_for_labels_and_resumes_with_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    config = small_config(out, **QUEUED)
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    queue = out / "labels" / "round-2.jsonl"

    assert main(["train", str(file)]) == 3
    assert f"{queue}: 4 pairs to label" in capsys.readouterr().err
    asked = _rows(queue)
    assert [set(row) for row in asked] == [{"pair_id", "prompt", "response_a", "response_b", "label"}] * 4
    assert {row["label"] for row in asked} == {None}
    kept = read_table(out / "round-2/bootstrap.partial/queried.parquet").to_pylist()
    sampled = read_table(out / "round-2/sample/candidates.parquet").to_pylist()
    shown = [[row["response_a"], row["response_b"]] for row in asked]
    assert shown == [[sampled[at]["text"] for at in row["rows"]] for row in kept]

    # Half of the labels: what is there is kept, and the same pairs are still asked about.
    _write(queue, [asked[0] | {"label": "b"}, asked[2] | {"label": 0.9}])
    with pytest.raises(AwaitingLabels, match=r"2 of 4 pairs have a label, .* set bootstrap\.allow_partial: true"):
        train(config)
    # A wrong label is refused, and named.
    _write(queue, [asked[0] | {"label": "b"}, asked[2] | {"label": "first"}])
    with pytest.raises(DataError, match=r"round-2\.jsonl, row 2: label must be"):
        train(config)
    # A queue that was deleted is written again.
    queue.unlink()
    with pytest.raises(AwaitingLabels, match="4 pairs to label"):
        train(config)
    assert _rows(queue) == asked

    labels = ["b", "tie", 0.9, None]
    _write(queue, [row | {"label": label} for row, label in zip(asked, labels, strict=True)])
    partial = small_config(out, **QUEUED | {"bootstrap": QUEUED["bootstrap"] | {"allow_partial": True}})
    run = train(partial).run
    made: list[Any] = list(as_pairs(read_examples(run.path("round-2/bootstrap", "generated.arrow"))))
    assert [(row["chosen"], row["rejected"], row["p"]) for row in made] == [
        (asked[0]["response_b"], asked[0]["response_a"], 1.0),
        (asked[2]["response_a"], asked[2]["response_b"], pytest.approx(0.9)),
    ]
    for name in (QUERIED, LABELS):
        assert tuple(read_table(run.path("round-2/bootstrap", name)).column_names) == COLUMNS[name]
    figures = run.record("round-2/bootstrap").figures
    assert figures["left_out"]["tie"] == figures["left_out"]["without a label"] == 1
    assert figures["left_out"]["not asked about"] > 0
    # The stage keeps the labels, whatever becomes of the file.
    table = read_table(run.path("round-2/bootstrap", "labels.parquet")).to_pylist()
    assert [row["p"] for row in table] == [0.0, 0.5, 0.9, None]
    rewards = read_table(run.path("round-2/bootstrap", "rewards.parquet")).to_pylist()
    margins = read_table(run.path("round-2/bootstrap", "selection.parquet"), ["margin"])["margin"].to_pylist()
    own = {(row["prompt_id"], row["text"]): each["reward"] for row, each in zip(sampled, rewards, strict=True)}
    for row, margin in zip(made, margins, strict=True):
        both = [own[row["prompt_id"], row[side]] for side in ("chosen", "rejected")]
        assert margin == pytest.approx(both[0] - both[1])
    # The labels were used, so the run ends at once when it is started again, without the file, too.
    queue.unlink()
    assert train(partial).run.root == out


def test_which_response_is_a_is_drawn_and_kept(tmp_path: Path) -> None:
    candidates = pa.table({"text": [f"answer {number}" for number in range(200)]})
    pairs = [Contrast(f"p{at}", (2 * at, 2 * at + 1), Pair(), 1.0) for at in range(100)]
    for name in ("one", "two"):
        _write_queried(tmp_path / name, pairs, candidates, seed=3)
    one, two = (read_table(tmp_path / name).to_pylist() for name in ("one", "two"))
    assert one == two
    assert all(sorted(row["rows"]) == list(pair.rows) for row, pair in zip(one, pairs, strict=True))
    turned = sum(row["rows"][0] > row["rows"][1] for row in one)
    assert 30 <= turned <= 70

"""The proof that a change is neutral: it sees every kind of difference, and none where names alone have changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_run import small_config

from benchmarks.neutral import __main__ as neutral
from benchmarks.neutral import facts, names
from benchmarks.neutral.compare import differences
from benchmarks.neutral.facts import Facts, ReadingError, read_facts
from seralign.config import load_config
from seralign.pipeline import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("neutral") / "run"
    train(small_config(root))
    return root


@pytest.fixture(scope="module")
def base(finished: Path) -> Facts:
    return read_facts(finished)


@pytest.fixture
def doctored(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("cache", "*.html")))


@pytest.mark.parametrize("variant", neutral.VARIANTS)
def test_both_configurations_are_read_and_take_no_precision_from_the_load(variant: str) -> None:
    config = load_config(neutral.HERE / f"{variant}.yaml")
    assert config.sft is not None
    assert config.sft.precision == config.training.precision == config.scoring.dtype == "float32"
    assert config.rounds == 3
    assert config.evaluation.baseline
    assert (config.crossfit is not None) == (variant == "crossfit")


def test_a_copy_does_not_differ(base: Facts, doctored: Path) -> None:
    assert differences(base, read_facts(doctored)) == []


def test_the_facts_are_those_of_the_files(base: Facts, finished: Path) -> None:
    table = pq.read_table(finished / "round-2/select/selection.parquet")
    assert list(base["margins/round-2/select/margin"].values()) == table["margin"].to_pylist()
    assert list(base["selections/round-2/select/reason"].values()) == table["reason"].to_pylist()
    assert set(base["weights/result"]) == set(load_file(finished / "result/model.safetensors"))
    assert base["weights/result"] == base["weights/round-3/train"] != base["weights/round-2/train"]
    record = json.loads((finished / "round-2/evaluate/stage.json").read_text())["figures"]
    assert base["figures/round-2/evaluate"]["win_rates.sft.mean"] == record["win_rates"]["sft"]["mean"]
    last = json.loads((finished / "round-2/train/metrics.jsonl").read_text().splitlines()[-1])
    assert base["metrics/round-2/train"]["step 4: eval_loss"] == last["eval_loss"]


# --- what differs is found


def flip_a_weight(run: Path) -> None:
    file = run / "round-2/train/policy/model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[0]
    first = weights[name].view(-1)[:1]
    first.copy_(torch.nextafter(first, torch.full_like(first, 9.0)))
    save_file(weights, file)


def change(file: str, column: str, new: Callable[[list[Any]], list[Any]]) -> Callable[[Path], None]:
    def apply(run: Path) -> None:
        table = pq.read_table(run / file)
        values = new(table[column].to_pylist())
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, pa.array(values, table[column].type)), run / file)

    return apply


def drop_a_row(run: Path) -> None:
    table = pq.read_table(run / "round-3/compose/training.parquet")
    pq.write_table(table.slice(1), run / "round-3/compose/training.parquet")


def change_a_metric(run: Path) -> None:
    file = run / "baseline/train/metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[-1]["eval_loss"] = float(np.nextafter(lines[-1]["eval_loss"], 9.0))
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def change_a_figure(run: Path) -> None:
    file = run / "round-1/evaluate/stage.json"
    record = json.loads(file.read_text())
    record["figures"]["heldout_accuracy"]["mean"] += 1e-16 + 2**-52
    file.write_text(json.dumps(record))


REVIEW, MADE, SAMPLED = "round-3/select/selection.parquet", "round-2/bootstrap", "round-2/sample/candidates.parquet"


@pytest.mark.parametrize(
    ("doctor", "series"),
    [
        (flip_a_weight, {"weights/round-2/train"}),
        (
            change(f"{MADE}/selection.parquet", "reason", lambda old: ["another", *old[1:]]),
            {"selections/round-2/bootstrap/reason"},
        ),
        (
            change(REVIEW, "margin", lambda old: [np.nextafter(old[0], 9.0), *old[1:]]),
            {"margins/round-3/select/margin"},
        ),
        (
            change(f"{MADE}/rewards.parquet", "reward", lambda old: [*old[:-1], old[-1] + 1e-9]),
            {"margins/round-2/bootstrap/reward"},
        ),
        (change(SAMPLED, "text", lambda old: [f"{old[0]} e1", *old[1:]]), {"answers/round-2/sample/text"}),
        (
            drop_a_row,
            {f"{kind}/round-3/compose/{column}" for kind, column in (
                ("selections", "used"), ("selections", "origin"), ("margins", "margin")
            )},
        ),
        (change_a_metric, {"metrics/baseline/train"}),
        (change_a_figure, {"figures/round-1/evaluate"}),
    ],
)  # fmt: skip
def test_a_difference_is_found_where_it_is(
    base: Facts, doctored: Path, doctor: Callable[[Path], None], series: set[str]
) -> None:
    doctor(doctored)
    found = {name: rest for name, _, rest in (line.partition(": ") for line in differences(base, read_facts(doctored)))}
    assert set(found) == series
    for name, rest in found.items():
        assert rest.startswith(f"1 of {len(base[name])} differ (")


def test_a_missing_training_is_a_difference(base: Facts, doctored: Path) -> None:
    shutil.rmtree(doctored / "round-1/train")
    found = differences(base, read_facts(doctored))
    assert any(line.startswith("weights/round-1/train: ") and "-> nothing" in line for line in found)


# --- names alone are no difference


def test_other_names_and_ids_of_the_same_content_do_not_differ(
    base: Facts, doctored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in doctored.rglob("*.parquet"):
        table = pq.read_table(file)
        if "example_id" in table.column_names:
            ids = pa.array([f"new-{name}" for name in table["example_id"].to_pylist()])
            table = table.set_column(table.column_names.index("example_id"), "pair_id", ids)
            renamed = ["cause" if name == "reason" else name for name in table.column_names]
            pq.write_table(table.rename_columns(renamed), file.with_name(f"new-{file.name}"))
            file.unlink()
    for file in doctored.rglob("*.arrow"):
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_stream(source).read_all()
        if "example_id" in table.column_names:
            rows = table.to_pylist()
            columns = {"pair_id": [f"new-{row['example_id']}" for row in rows],
                       "p": [row["preference"][0] if row["preference"] else 1.0 for row in rows],
                       "chosen_ids": [row["response_ids"][0] for row in rows],
                       "rejected_ids": [(*row["response_ids"], [])[1] for row in rows]}  # fmt: skip
            new = pa.table(columns | {name: [row[name] for row in rows] for name in ("origin", "prompt_ids")})
            file.unlink()
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, new.schema) as writer:
                writer.write_table(new)
    for number in (2, 3):
        (doctored / f"round-{number}/select").rename(doctored / f"round-{number}/choose")
    with pytest.raises(ReadingError, match=r"does not have the column reason, the stage select\. Where a name has"):
        read_facts(doctored)
    columns = tuple((*given, "cause") if given[0] == "reason" else given for given in names.SELECTION_COLUMNS)
    monkeypatch.setattr(names, "SELECTION_COLUMNS", columns)
    monkeypatch.setattr(names, "STAGE_PARTS", (*names.STAGE_PARTS[:9], ("select", "choose"), *names.STAGE_PARTS[10:]))
    assert differences(base, read_facts(doctored)) == []


def test_differences_are_told_by_series() -> None:
    old: Facts = {"margins/a/margin": {"x": 1.0, "y": float("nan"), "z": 2.0}, "weights/a": {"w": "1"}}
    new: Facts = {"margins/a/margin": {"x": 1.5, "y": float("nan"), "z": 2}, "weights/a": {"w": "1"}}
    assert differences(old, new) == ["margins/a/margin: 2 of 3 differ (x: 1.0 -> 1.5; z: 2.0 -> 2)"]
    assert differences(old, old) == []


# --- the command


@pytest.mark.parametrize(("changed", "status"), [(0.0, 0), (0.5, 1)])
def test_the_command_says_whether_the_trees_differ(
    changed: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(root: Path, variant: str, folder: Path) -> Facts:
        assert (root == neutral.ROOT) == (folder.name == "tree")
        return {"margins/a/margin": {"x": 1.0 + (changed if root == neutral.ROOT else 0.0)}}

    monkeypatch.setattr(neutral, "_facts", found)
    monkeypatch.setattr(neutral, "_git", lambda *arguments: None)
    assert neutral.main(["main"]) == status
    told = capsys.readouterr().out
    assert ("neutral: both trees found the same" in told) == (status == 0)
    assert ("crossfit: margins/a/margin: 1 of 1 differ (x: 1.0 -> 1.5)" in told) == (status == 1)


def test_the_reader_refuses_an_empty_run(tmp_path: Path) -> None:
    with pytest.raises(ReadingError, match="the weights of the result"):
        facts.read_facts(tmp_path)

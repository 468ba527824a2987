"""The review before round 1: who judges what, what the rounds then train on, and what is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from small_run import logps_alone, small_config
from tiny import read_pairs

from seralign.config import RunConfig
from seralign.data.table import read_table as arrow_table
from seralign.data.table import to_example
from seralign.data.table_columns import pair_labels
from seralign.errors import ConfigError, DataError
from seralign.evaluation.scorer import make_scorer
from seralign.laboratory.world import load_world, read_truth
from seralign.pipeline import RunResult, train
from seralign.pipeline.plan import plan_run
from seralign.pipeline.stage import Context
from seralign.pipeline.training import Training
from seralign.preferences.diagnosis import diagnose
from seralign.preferences.reviewed import read_review
from seralign.report.contents import run_contents
from seralign.report.summary import headline
from seralign.report.text import run_tables
from seralign.rewards.crossfit import calibrate, soft_labels
from seralign.runs import Run
from seralign.runs.files import read_table
from seralign.studies.label_quality import round_labels


def _config(out: Path, **overrides: Any) -> RunConfig:
    """A labeller who likes long answers, which a small policy learns in a few steps."""
    given = {"world__spurious_strength": 5.0, "world__noise": 0.0, "training__learning_rate": 3e-3} | overrides
    return small_config(out, training__max_steps=16, **given)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    out = tmp_path_factory.mktemp("crossfit") / "run"
    return _config(out, crossfit={"folds": 2, "trust": 0.6, "keep": 0.8}, rounds=2, bootstrap=None)


@pytest.fixture(scope="module")
def done(config: RunConfig) -> RunResult:
    return train(config)


def reviewed(run: Run) -> dict[str, Any]:
    columns = read_table(run.path("crossfit/review", "review.parquet")).to_pydict()
    return {name: np.array(column) for name, column in columns.items()}


def test_copies_are_trained_without_the_prompts_that_they_judge(done: RunResult) -> None:
    table = reviewed(done.run)
    pairs = read_pairs(done.run.path("data", "pairs.arrow"))
    prompts = dict(zip(pairs["example_id"][:], pairs["prompt"][:], strict=True))
    assert set(table["fold"]) == {0, 1}
    for copy in (0, 1):
        seen = read_table(done.run.path(f"crossfit/fold-{copy + 1}", "reference.parquet"))["example_id"].to_pylist()
        judged = table["example_id"][table["fold"] == copy]
        assert not {prompts[name] for name in seen} & {prompts[name] for name in judged}
        assert len(seen) + len(judged) == len(table["example_id"])


def test_the_review_tells_how_many_labels_are_wrong(done: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the margins alone: the trust in the labels of the data has no part in them."""
    table, root = reviewed(done.run), done.run.root
    given = np.where(table["swapped"], -1, 1) * table["margin"]
    found = read_review(root, "--margins")
    p = 1 / (1 + np.exp(-calibrate(given, np.ones(len(given))) * given))
    assert dict(found.p) == pytest.approx(dict(zip(table["example_id"], p, strict=True)))
    pairs = arrow_table(done.run.path("data", "pairs.arrow"))
    noise = diagnose((to_example(row) for row in pairs), found).noise  # pyright: ignore
    assert noise is not None
    assert noise.basis == f"margins of policies that were not trained on the pair (crossfit of {root})"
    assert (noise.accuracy.mean, noise.accuracy.n, noise.unjudged) == (np.mean(given > 0), len(given), 0)
    assert noise.wrong is not None
    assert 0 < noise.wrong < np.mean(given <= 0) + 0.1
    monkeypatch.setattr(Run, "exists", lambda *_: False)
    with pytest.raises(ConfigError, match=r"--margins .*: the run has not reviewed its data; give one with crossfit"):
        read_review(root, "--margins")


def test_labels_are_calibrated_margins_and_the_largest_margins_stay(done: RunResult) -> None:
    table, figures = reviewed(done.run), done.run.record("crossfit/review").figures
    hard = np.ones(len(table["margin"]))
    given = np.where(table["swapped"], -1, 1) * table["margin"]
    label = soft_labels(given, hard, figures["scale"], 0.6)
    np.testing.assert_array_equal(table["swapped"], label < 0.5)
    np.testing.assert_array_equal(table["p"], np.maximum(label, 1 - label))
    assert figures["scale"] == calibrate(given, hard) > 0
    assert figures["accuracy"] == np.mean(given > 0)
    assert figures["swapped"] == np.mean(table["swapped"]) > 0
    assert figures["kept"] == table["kept"].sum() == round(0.8 * len(hard))
    assert table["margin"][table["kept"]].min() >= table["margin"][~table["kept"]].max()


def test_a_pair_is_swapped_as_a_whole(done: RunResult) -> None:
    run, table = done.run, reviewed(done.run)
    given = {row["example_id"]: row for row in read_pairs(run.path("data", "pairs.arrow"))}
    made = {row["example_id"]: row for row in read_pairs(run.path("crossfit/review", "pairs.arrow"))}
    assert list(made) == list(given) == table["example_id"].tolist()
    for name, swapped, p in zip(table["example_id"], table["swapped"], table["p"], strict=True):
        sides = ("rejected", "chosen") if swapped else ("chosen", "rejected")
        for ours, theirs in zip(("chosen", "rejected"), sides, strict=True):
            assert made[name][ours] == given[name][theirs]
            assert made[name][f"{ours}_ids"] == given[name][f"{theirs}_ids"]
        assert made[name]["p"] == p >= 0.5
        assert all(made[name][key] == given[name][key] for key in ("prompt", "prompt_id", "prompt_ids", "origin"))


def test_margins_are_those_of_the_copy_that_has_not_seen_the_pair(done: RunResult, config: RunConfig) -> None:
    """The plain model of transformers gives them too."""
    run, table = done.run, reviewed(done.run)
    rows = {row["example_id"]: row for row in read_pairs(run.path("data", "pairs.arrow"))}
    for copy in (0, 1):
        judged = np.flatnonzero(table["fold"] == copy)[:3]
        some = [rows[name] for name in table["example_id"][judged]]
        chosen, rejected = (
            logps_alone(run.path(f"crossfit/fold-{copy + 1}", "policy"), some, side)
            - logps_alone(run.path("sft", "policy"), some, side)
            for side in ("chosen_ids", "rejected_ids")
        )
        given = np.where(table["swapped"], -1, 1) * table["margin"]
        np.testing.assert_allclose(given[judged], chosen - rejected, atol=1e-4)


def test_later_rounds_and_metrics_see_a_swapped_pair_as_it_is_trained_on(done: RunResult) -> None:
    """Margins, lengths and accuracies are those of the sides that the new label names, found by plain transformers."""
    run, table = done.run, reviewed(done.run)
    swapped = dict(zip(table["example_id"], table["swapped"], strict=True))
    scored = read_table(run.path("round-2/score", "margins.parquet")).to_pydict()
    selected = read_table(run.path("round-2/select", "selection.parquet")).to_pydict()
    pairs = [row for row in read_pairs(run.path("data", "pairs.arrow")) if row["example_id"] in scored["example_id"]]
    ends = ("chosen_ids", "rejected_ids")
    won, lost = (
        logps_alone(run.path("round-1/train", "policy"), pairs, side)
        - logps_alone(run.path("sft", "policy"), pairs, side)
        for side in ends
    )
    sign = np.array([-1 if swapped[row["example_id"]] else 1 for row in pairs])
    longer = np.array([len(row["chosen_ids"]) - len(row["rejected_ids"]) for row in pairs]) * sign

    assert scored["example_id"] == selected["example_id"] == [row["example_id"] for row in pairs]
    assert (sign < 0).any()
    np.testing.assert_allclose(scored["margin"], sign * (won - lost), atol=1e-4)
    assert selected["margin"] == scored["margin"]
    assert run.record("round-2/score").figures["accuracy"] == pytest.approx(np.mean(sign * (won - lost) > 0))
    figures, kept = run.record("round-2/select").figures, np.array(selected["kept"])
    assert figures["length_difference"] == np.mean(longer)
    assert figures["length_difference_kept"] == np.mean(longer[kept])


def test_label_quality_is_of_swapped_pairs_as_they_are_trained_on(done: RunResult) -> None:
    """A label that the review has mended is no flip."""
    run, table = done.run, reviewed(done.run)
    sides = dict(zip(table["example_id"], table["swapped"], strict=True))
    selected = read_table(run.path("round-2/select", "selection.parquet")).to_pydict()
    swapped, kept = np.array([sides[name] for name in selected["example_id"]]), np.array(selected["kept"])
    truth = read_truth(run.path("world"))
    given = truth.of(selected["example_id"])
    gold = np.where(swapped, -1, 1) * given.gold_difference
    scorer = make_scorer(load_world(run.path("world")).score, "gold", "world")
    found = round_labels(run, 2, truth, scorer).selection

    assert (swapped & kept).any()
    assert found.kept.flip_rate == np.mean((given.flipped != swapped)[kept])
    assert found.kept.gold_wrong == np.mean(gold[kept] < 0)


def test_rounds_train_on_the_pairs_that_stay_and_the_baseline_on_all(done: RunResult) -> None:
    run, table = done.run, reviewed(done.run)
    staying = set(table["example_id"][table["kept"]])

    def trained_on(stage: str) -> set[str]:
        return set(read_table(run.path(stage, "reference.parquet"))["example_id"].to_pylist())

    assert trained_on("round-1/train") == staying
    assert trained_on("round-2/train") < staying
    assert trained_on("baseline/train") == set(table["example_id"])


def test_rounds_train_with_the_new_labels_and_the_baseline_with_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: dict[str, dict[str, float]] = {}

    def watched(stage: Training, context: Context, folder: Path) -> Any:
        table = stage.rows.table(context)
        if stage.section == "training":
            labels[stage.name] = dict(zip(table["example_id"], pair_labels(table).tolist(), strict=True))
        return work(stage, context, folder)

    work = Training.work
    monkeypatch.setattr(Training, "work", watched)
    run = train(_config(tmp_path / "run", crossfit={"folds": 2}, rounds=1)).run
    table = reviewed(run)

    assert labels["round-1/train"] == dict(zip(table["example_id"], table["p"], strict=True))
    assert set(labels["baseline/train"].values()) == {1.0}


def test_the_plan_names_the_stages_and_the_tables_show_the_review(done: RunResult, config: RunConfig) -> None:
    planned = [stage.name for stage in plan_run(config).stages]
    rows = {stage.name: stage.note for stage in plan_run(replace(config, out=f"{config.out}-fresh")).stages}
    assert [rows[f"{name}/train"] for name in ("round-1", "round-2", "baseline")] == ["48 rows", "34 rows", "60 rows"]
    ran = [record.name for record in done.run.stages()]
    assert [name for name in ran if name in planned] == planned
    assert planned[planned.index("initial/evaluate") + 1 :][:3] == [
        "crossfit/fold-1",
        "crossfit/fold-2",
        "crossfit/review",
    ]
    text = io.StringIO()
    Console(file=text, width=200).print(run_tables(run_contents(done.run).figures))
    assert "pairs scored by 2 copies of the policy that had not seen them" in text.getvalue()
    assert "80.0% stay" in text.getvalue()
    assert headline(run_contents(done.run)).startswith("DPO on 48 preference pairs")
    assert "pairs scored by 2 copies" in (done.policy / "README.md").read_text()


def test_more_folds_than_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^crossfit\.folds: 500 folds of \d+ different prompts"):
        train(small_config(tmp_path / "run", crossfit={"folds": 500}, rounds=1))
    assert not list((tmp_path / "run").rglob("data/stage.json"))  # the folder is free for the right number


def test_margins_that_say_nothing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seralign.pipeline.crossfit.calibrate", lambda margins, p: 0.0)
    with pytest.raises(DataError, match="their margins do not predict the labels"):
        train(small_config(tmp_path / "run", crossfit={"folds": 2}, rounds=1))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"crossfit": {"folds": 1}}, r"crossfit\.folds"),
        ({"crossfit": {"trust": 0.4}}, r"crossfit\.trust"),
        ({"crossfit": {"keep": 0.0}}, r"crossfit\.keep"),
        ({"crossfit": {"trust": 1.0}}, "change no hard label and drop no pair"),
        ({"crossfit": {}, "objective.name": "sft", "rounds": 1}, "sft has no margin"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        small_config(tmp_path, **given)

"""Later rounds on rankings and scores: scored, selected, made of whole sets of candidates, and trained on."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import logps_alone, small_config

from seralign.config import RunConfig, WorldConfig
from seralign.data.table import read_table as read_examples
from seralign.data.table_columns import example_ids
from seralign.errors import ConfigError
from seralign.laboratory.world import make_world
from seralign.pipeline import RunResult, train
from seralign.pipeline.plan import plan_run
from seralign.report.contents import run_contents
from seralign.report.page import write_report
from seralign.report.text import run_tables
from seralign.runs.files import read_table

ROUNDS = {
    "rounds": 3, "sft": None, "world": None, "evaluation__baseline": False, "evaluation__prompts": 0,
    "evaluation__token_pairs": 4, "data__heldout_fraction": 0.2, "objective__name": "plackett_luce",
    "bootstrap__preferences": "ranking",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world, and its pairs as rankings of two or three responses, not in their order, and as scores."""
    folder = tmp_path_factory.mktemp("ranked")
    make_world(WorldConfig(pairs=40, demonstrations=8, prompts=12, heldout=8), folder / "world")
    rows = [json.loads(line) for line in (folder / "world" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    rankings, scores, tied = [], [], []
    for number, row in enumerate(rows):
        answers = [row["rejected"], row["chosen"]]
        worst = " ".join(reversed(row["rejected"].split()))
        answers += [worst] * (number % 2 == 0 and worst not in answers)
        rankings.append({"prompt": row["prompt"], "responses": answers, "ranks": [2, 1, 3][: len(answers)]})
        scores.append({"prompt": row["prompt"], "responses": answers, "scores": [0.5, 2.0, -1.0][: len(answers)]})
        tied.append(scores[-1] | ({"scores": [1.0] * len(answers)} if number == 3 else {}))
    for name, made in (("rankings", rankings), ("scores", scores), ("tied", tied)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    return folder


def config(folder: Path, out: str, rows: str, **more: Any) -> RunConfig:
    given = ROUNDS | {"policy__model": str(folder / "world" / "model"), "data__pairs": {"path": str(folder / rows)}}
    values = given | more
    if "bootstrap" in more:  # None, beside which there are no keys of it
        values = {key: value for key, value in values.items() if not key.startswith("bootstrap__")}
    return small_config(folder / out, **values)


@pytest.fixture(scope="module")
def done(folder: Path) -> RunResult:
    return train(config(folder, "run", "rankings.jsonl"))


def rewards(folder: Path, policy: Path, row: dict) -> np.ndarray:
    """Log-ratios [K] in float64, one sequence at a time."""
    rows = [{"prompt_ids": row["prompt_ids"], "ids": ids} for ids in row["response_ids"]]
    return logps_alone(policy, rows, "ids") - logps_alone(folder / "world" / "model", rows, "ids")


def mean_margin(values: np.ndarray, ranks: list[float]) -> float:
    """The mean over the ordered pairs of responses."""
    both = [(a, b) if ranks[a] < ranks[b] else (b, a) for a, b in combinations(range(len(ranks)), 2)]
    return float(np.mean([values[a] - values[b] for a, b in both if ranks[a] != ranks[b]]))


def test_rankings_are_scored_and_selected_by_their_mean_margin(folder: Path, done: RunResult) -> None:
    run = done.run
    assert run.record("result").figures["policy"] == "round 3"
    rows = [dict(row) for row in read_examples(run.path("data", "pairs.arrow"))]
    assert {len(row["responses"]) for row in rows} == {2, 3}
    margins = read_table(run.path("round-2/score", "margins.parquet")).to_pylist()
    policy = run.path("round-1/train", "policy")
    for row, found in zip(rows[:6], margins, strict=False):
        own = rewards(folder, policy, row)
        assert found["margin"] == pytest.approx(mean_margin(own, row["preference"]), abs=1e-4)
        lengths = [len(ids) for ids in row["response_ids"]]
        assert (found["chosen_length"], found["rejected_length"]) == (lengths[0], lengths[-1])
    selected = read_table(run.path("round-2/select", "selection.parquet")).to_pylist()
    kept = [row["margin"] for row in selected if row["kept"]]
    dropped = [row["margin"] for row in selected if not row["kept"]]
    assert len(kept) == round(0.7 * len(rows))
    assert min(kept) >= max(dropped)
    # The third round's margin is the ensemble's: 0.7 of the last policy, 0.3 of the one before.
    scored = [read_table(run.path(f"round-{index}/score", "margins.parquet"))["margin"].to_numpy() for index in (3, 2)]
    found = read_table(run.path("round-3/select", "selection.parquet"))["margin"].to_numpy()
    np.testing.assert_allclose(found, 0.7 * scored[0] + 0.3 * scored[1])


def test_all_candidates_of_a_prompt_become_a_ranking(folder: Path, done: RunResult) -> None:
    run = done.run
    made = [dict(row) for row in read_examples(run.path("round-3/bootstrap", "generated.arrow"))]
    assert {row["form"] for row in made} == {"ranking"}
    assert max(len(row["responses"]) for row in made) == 3  # bootstrap.samples
    sampled = read_table(run.path("round-3/sample", "candidates.parquet")).to_pylist()
    stored = read_table(run.path("round-3/bootstrap", "rewards.parquet")).to_pylist()
    reward = {(row["prompt_id"], tuple(row["ids"])): own["reward"] for row, own in zip(sampled, stored, strict=True)}
    selection = read_table(run.path("round-3/bootstrap", "selection.parquet")).to_pylist()
    for row, choice in zip(made, selection, strict=True):
        own = np.array([reward[row["prompt_id"], tuple(ids)] for ids in row["response_ids"]])
        assert (np.diff(own) <= 0).all()
        assert row["preference"] == [1 + sum(value > each for value in set(own)) for each in own]
        assert choice["margin"] == pytest.approx(mean_margin(own, row["preference"]))
        # The ensemble over two policies, from scratch.
        both = [rewards(folder, run.path(f"round-{index}/train", "policy"), row) for index in (2, 1)]
        np.testing.assert_allclose(own, 0.7 * both[0] + 0.3 * both[1], atol=1e-3)
    figures = run.record("round-3/compose").figures
    assert figures["generated"] > 0
    assert run.record("round-3/train").figures["pairs"] == figures["offline"] + figures["generated"]
    assert run.record("round-3/evaluate").figures["heldout_accuracy"] is not None


def test_it_is_planned_and_reported(folder: Path, done: RunResult, tmp_path: Path) -> None:
    plan = plan_run(config(folder, "plan", "rankings.jsonl"))
    stages = {stage.name: stage for stage in plan.stages}
    assert stages["round-2/bootstrap"].unit == "rankings at most"
    assert stages["round-3/train"].seconds is not None
    contents = run_contents(done.run)
    assert run_tables(contents.figures) is not None
    write_report([contents], tmp_path / "report.html")


def test_rankings_of_two_go_round_as_pairs_do(folder: Path) -> None:
    """The same pairs are selected and made, and the losses and weights of every round are equal to the last bit."""
    shared = {"bootstrap__samples": 2, "data__pairs": {"path": str(folder / "world" / "pairs.jsonl")}}
    runs = []
    for name, own in (
        ("pairs", {"objective__name": "dpo", "bootstrap__preferences": "best_worst"}),
        ("pairs as rankings", {"data__convert": {"pair": "ranking"}}),
    ):
        runs.append(train(config(folder, name, "unused", **shared, **own)).run)
    pairs, rankings = runs
    for index in (1, 2, 3):
        stage = f"round-{index}/train"
        assert rankings.record(stage).figures["digest"] == pairs.record(stage).figures["digest"]
        heldout = [run.record(stage).figures["heldout"]["eval_loss"] for run in runs]
        assert heldout[0] == heldout[1]
        accuracy = [run.record(f"round-{index}/evaluate").figures["heldout_accuracy"] for run in runs]
        assert accuracy[0] == accuracy[1]
    for index in (2, 3):
        for stage in ("select", "bootstrap"):
            tables = [read_table(run.path(f"round-{index}/{stage}", "selection.parquet")).to_pylist() for run in runs]
            assert tables[0] == tables[1]
            assert len(tables[0]) > 0
    ids = [example_ids(read_examples(run.path("round-3/bootstrap", "generated.arrow"))) for run in runs]
    assert ids[0] == ids[1]


def test_scores_go_round_with_an_objective_of_scores(folder: Path) -> None:
    """``Centred`` takes scores and nothing that bootstrapping makes."""
    own = {"objective__name": "objectives.own_objective:Centred", "objective__beta": 0.3}
    with pytest.raises(ConfigError, match=r"^bootstrap\.preferences: ranking makes the form ranking, and .*Centred "):
        config(folder, "scores", "scores.jsonl", **own)
    run = train(config(folder, "scores", "scores.jsonl", **own, bootstrap=None, rounds=2)).run
    row = dict(read_examples(run.path("data", "pairs.arrow"))[0])
    margins = read_table(run.path("round-2/score", "margins.parquet"))["margin"].to_pylist()
    values = rewards(folder, run.path("round-1/train", "policy"), row)
    assert margins[0] == pytest.approx(mean_margin(values, [-score for score in row["preference"]]), abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        ("rankings", {"bootstrap__preferences": "best_worst"},
         r"bootstrap\.preferences: best_worst makes the form pair, and plackett_luce takes ranking; set "
         r"bootstrap\.preferences: ranking, or bootstrap: null"),
        ("rankings", {"objective__name": "dpo", "data__convert": {"ranking": "best_worst_pair"}},
         r"bootstrap\.preferences: ranking makes the form ranking, and dpo takes pair; set "
         r"bootstrap\.preferences: best_worst, or bootstrap: null"),
        ("rankings", {"scoring__length_correction": "matched"},
         r"scoring\.length_correction: matched chooses two responses of like length, and bootstrap\.preferences: "),
        ("rankings", {"objective__name": "tpo", "bootstrap__samples": 2},
         r"bootstrap\.samples: 2 responses of a prompt are too few for tpo, which needs 3; give 3 or more"),
        ("rankings", {"crossfit": {"folds": 2}},
         r"crossfit: it gives each pair a new label p, but data\.pairs has the form ranking, which has none; "),
        ("tied", {"objective__name": "objectives.own_objective:Centred", "bootstrap": None},
         r"rounds: later rounds select examples by their margins, but 1 of \d+ examples of data\.pairs have no two "
         r"responses of different worth, the first is \w+; remove them, or set rounds: 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(folder: Path, tmp_path: Path, rows: str, more: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        train(config(folder, str(tmp_path / "run"), f"{rows}.jsonl", **{"data__heldout_fraction": 0.0} | more))

"""Whole runs on rankings and on unpaired labels, read from files, and the reasons for which some are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from small_run import logps_alone, small_config

from seralign.config import RunConfig, WorldConfig
from seralign.data.table import read_table as read_examples
from seralign.errors import ConfigError
from seralign.laboratory.world import make_world
from seralign.pipeline import RunResult, train
from seralign.pipeline.plan import plan_run
from seralign.report.contents import run_contents
from seralign.report.page import write_report
from seralign.report.text import run_tables

ROUND_1 = {
    "rounds": 1, "sft": None, "world": None, "evaluation__baseline": False, "evaluation__prompts": 0,
    "evaluation__token_pairs": 4, "data__heldout_fraction": 0.2, "objective__beta": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world, its pairs as rankings of two or three responses, and as unpaired labels."""
    folder = tmp_path_factory.mktemp("forms")
    make_world(WorldConfig(pairs=30, demonstrations=8, prompts=8, heldout=8), folder / "world")
    rows = [json.loads(line) for line in (folder / "world" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    rankings, labels = [], []
    for number, row in enumerate(rows):
        worst = " ".join(reversed(row["rejected"].split()))
        answers = [{"answer": row["rejected"], "rank": 2}, {"answer": row["chosen"], "rank": 1}]
        answers += [{"answer": worst, "rank": 3}] * (number % 2 == 0 and worst != row["rejected"])
        rankings.append({"prompt": row["prompt"], "answers": answers})
        side = "chosen" if number % 3 else "rejected"
        labels.append({"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"})
    one = [row | {"prompt": labels[0]["prompt"]} for row in labels[:6]]
    mixed = rankings[:10] + rows[10:]
    for name, made in (("rankings", rankings), ("labels", labels), ("mixed", mixed), ("one_prompt", one)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    return folder


def config(folder: Path, out: str, rows: str, objective: str, **more: object) -> RunConfig:
    given = ROUND_1 | {
        "policy__model": str(folder / "world" / "model"), "data__pairs": {"path": str(folder / f"{rows}.jsonl")},
        "objective__name": objective,
    }  # fmt: skip
    return small_config(folder / out, **given | more)


def ratios(folder: Path, policy: Path, rows: list[dict]) -> np.ndarray:
    """Log-ratios in float64, one sequence at a time."""
    return logps_alone(policy, rows, "ids") - logps_alone(folder / "world" / "model", rows, "ids")


def sequences(rows: list[dict]) -> list[dict]:
    return [{"prompt_ids": row["prompt_ids"], "ids": ids} for row in rows for ids in row["response_ids"]]


def reports(done: RunResult, page: Path) -> None:
    """The report and the text are written, and no pair is shown."""
    contents = run_contents(done.run)
    assert contents.pairs_total == 0
    assert run_tables(contents.figures) is not None
    write_report([contents], page)


@pytest.fixture(scope="module")
def ranked(folder: Path) -> RunResult:
    return train(config(folder, "ranked", "rankings", "plackett_luce"))


def test_rankings_are_trained_on_with_plackett_luce(folder: Path, ranked: RunResult, tmp_path: Path) -> None:
    heldout = [dict(row) for row in read_examples(ranked.run.path("data", "heldout.arrow"))]
    table = read_examples(ranked.run.path("data", "pairs.arrow"))
    assert set(table["form"]) == {"ranking"}
    assert {len(responses) for responses in table["responses"]} == {2, 3}
    assert all(ranks == sorted(ranks) for ranks in table["preference"])
    figures = ranked.run.record("round-1/train").figures
    # Step 0: all rewards are 0, so the first of K is chosen with the chance 1/K, the next with 1/(K - 1), ...
    start = np.mean([math.log(math.factorial(len(row["response_ids"]))) for row in heldout])
    assert figures["heldout_first"]["eval_loss"] == pytest.approx(start, rel=1e-6)
    losses = []
    for row in heldout:
        own = 0.3 * ratios(
            folder, ranked.policy, [{"prompt_ids": row["prompt_ids"], "ids": ids} for ids in row["response_ids"]]
        )
        losses.append(sum(np.log(np.exp(own[place:]).sum()) - own[place] for place in range(len(own))))
    assert figures["heldout"]["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert np.mean(losses) < start
    reports(ranked, tmp_path / "report.html")


@pytest.fixture(scope="module")
def unpaired(folder: Path) -> RunResult:
    return train(config(folder, "unpaired", "labels", "kto"))


def test_labels_are_trained_on_with_kto(folder: Path, unpaired: RunResult, tmp_path: Path) -> None:
    run = unpaired.run
    heldout = [dict(row) for row in read_examples(run.path("data", "heldout.arrow"))]
    figures = run.record("round-1/train").figures
    # Step 0: rho = z = 0.
    assert figures["heldout_first"]["eval_loss"] == 0.5
    last = figures["heldout"]
    assert last["eval_loss"] < 0.5
    own = 0.3 * ratios(
        folder, unpaired.policy, [{"prompt_ids": row["prompt_ids"], "ids": row["response_ids"][0]} for row in heldout]
    )
    liked = np.array([row["preference"][0] == 1.0 for row in heldout])
    assert 0 < liked.sum() < len(liked)
    assert last["eval_rewards/desirable"] == pytest.approx(own[liked].mean(), abs=1e-4)
    assert last["eval_rewards/undesirable"] == pytest.approx(own[~liked].mean(), abs=1e-4)
    assert last["eval_rewards/margins"] == pytest.approx(own[liked].mean() - own[~liked].mean(), abs=1e-4)
    # The loss lies where some z of at least 0 puts it.
    at = [np.mean(1 / (1 + np.exp(np.where(liked, own - 0.3 * z, 0.3 * z - own)))) for z in np.linspace(0, 60, 6001)]
    assert min(abs(last["eval_loss"] - value) for value in at) < 1e-3
    # The table has one response for each example, and so has what was looked at.
    assert all(len(responses) == 1 for responses in read_examples(run.path("data", "pairs.arrow"))["responses"])
    reports(unpaired, tmp_path / "report.html")


def test_labels_are_trained_on_with_bco(folder: Path, tmp_path: Path) -> None:
    run = train(config(folder, str(tmp_path / "run"), "labels", "bco")).run
    figures = run.record("round-1/train").figures
    # Step 0: rho and the shift are 0.
    assert figures["heldout_first"]["eval_loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert figures["heldout"]["eval_loss"] < np.log(2)
    heldout = [dict(row) for row in read_examples(run.path("data", "heldout.arrow"))]
    asked = [{"prompt_ids": row["prompt_ids"], "ids": row["response_ids"][0]} for row in heldout]
    own = 0.3 * ratios(folder, run.path("round-1/train", "policy"), asked)
    liked = np.array([row["preference"][0] == 1.0 for row in heldout])
    assert figures["heldout"]["eval_rewards/desirable"] == pytest.approx(own[liked].mean(), abs=1e-4)
    assert figures["heldout"]["eval_rewards/undesirable"] == pytest.approx(own[~liked].mean(), abs=1e-4)
    # The loss lies where some shift puts it.
    at = [np.logaddexp(0, np.where(liked, d - own, own - d)).mean() for d in np.linspace(-5, 5, 20001)]
    assert min(abs(figures["heldout"]["eval_loss"] - value) for value in at) < 1e-4


def test_the_plan_counts_the_mismatched_responses(folder: Path, unpaired: RunResult) -> None:
    plan = plan_run(config(folder, "plan", "labels", "kto"))
    (packing,) = plan.packing
    assert packing.steps == unpaired.run.record("round-1/train").figures["steps"]
    stored = unpaired.run.record("round-1/train").outputs
    assert "reference.parquet" in stored


@pytest.mark.parametrize(
    ("rows", "objective", "more", "message"),
    [
        ("labels", "kto", {"rounds": 2}, r"rounds: kto reads labels of single responses, so there is no margin"),
        ("labels", "kto", {"crossfit": {"folds": 2}}, r"crossfit: kto reads labels of single responses"),
        ("labels", "dpo", {}, r"objective\.name: dpo takes pair, but data\.pairs has the form label; give an objective "
         r"that takes label \(bco, kto\), or set data\.convert\.label: pairs, or give other data as data\.pairs"),
        ("rankings", "dpo", {}, r"objective\.name: dpo takes pair, but data\.pairs has the form ranking; .*"
         r"plackett_luce.*data\.convert\.ranking: all_pairs or adjacent_pairs or best_worst_pair"),
        ("rankings", "tpo", {}, r"objective\.name: tpo needs 3 ranked responses of each prompt, and \d+ of \d+ "
         r"examples of data\.pairs have fewer: \w+ has 2; give rankings of 3 or more, or another objective"),
        ("mixed", "plackett_luce", {}, r"objective\.name: plackett_luce takes ranking, but data\.pairs has the form "),
        ("one_prompt", "kto", {"data__heldout_fraction": 0},
         r"data\.pairs: kto compares with responses to other prompts, but all examples have the same prompt"),
        ("labels", "bco", {"rounds": 2}, r"rounds: later rounds select examples by their margins, but data\.pairs has "
         r"the form label"),
        ("labels", "kto", {"data__heldout_fraction": 0.01},
         r"data\.heldout_fraction: kto compares with responses to other prompts, but all held-out examples have "),
        ("labels", "kto", {"sft": {"max_steps": 1}}, r"sft: data\.pairs has the form label, .* data\.demonstrations"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(
    folder: Path, tmp_path: Path, rows: str, objective: str, more: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        train(config(folder, str(tmp_path / "run"), rows, objective, **more))


def test_a_mixed_file_is_converted_to_one_form(folder: Path, tmp_path: Path) -> None:
    """The pairs of a file and the pairs of its rankings are trained on with dpo."""
    more = {"data__convert": {"ranking": "best_worst_pair"}, "training__max_steps": 1, "training__epochs": None}
    run = train(config(folder, str(tmp_path / "run"), "mixed", "dpo", **more)).run
    source = run.record("data").figures["sources"]["pairs"]
    assert source["read"] == 30
    assert source["converted"] == {"made of ranking by data.convert.ranking: best_worst_pair": 10}
    assert run.record("data").figures["pairs"] + run.record("data").figures["heldout"] == 30

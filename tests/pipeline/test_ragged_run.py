"""A run on examples with different numbers of responses, by an objective of one's own: trained, planned, reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_run import logps_alone, small_config

import seralign.data.prepare as prepare
from seralign.config import RunConfig, WorldConfig
from seralign.data.raw import RawExample
from seralign.data.table import read_table as read_examples
from seralign.errors import ConfigError
from seralign.laboratory.world import make_world
from seralign.pipeline import RunResult, train
from seralign.pipeline.plan import plan_run
from seralign.records import Scores, content_id
from seralign.report.contents import run_contents
from seralign.report.page import write_report
from seralign.runs.files import read_table

COUNTS = (3, 1, 2)


def read_scored(row: dict, where: str, reading: object) -> RawExample:
    """A row of the world's pairs as an example of three, one or two responses with scores."""
    count = COUNTS[len(row["prompt"]) % 3]
    turned = " ".join(reversed(row["rejected"].split()))
    responses = (row["chosen"], row["rejected"], turned)[:count]
    scores = Scores((0.5, -1.0, -0.25)[:count])
    return RawExample(content_id([row["prompt"], responses]), row["prompt"], responses, scores, 1.0, False, where)


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    """Rows of the pairs are read as examples with scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "read_example", read_scored)
        yield patch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ragged")
    make_world(WorldConfig(pairs=30, demonstrations=8, prompts=8, heldout=8), folder / "world")
    return folder


def config(folder: Path, out: str, **more: object) -> RunConfig:
    given = {
        "rounds": 1, "sft": None, "world": None, "evaluation__baseline": False, "evaluation__prompts": 0,
        "evaluation__token_pairs": 6, "policy__model": str(folder / "world" / "model"),
        "data__pairs": {"path": str(folder / "world" / "pairs.jsonl")}, "data__heldout_fraction": 0.2,
        "objective__name": "objectives.own_objective:Centred", "objective__beta": 0.3,
    }  # fmt: skip
    return small_config(folder / out, **given | more)


@pytest.fixture(scope="module")
def done(folder: Path, patched: pytest.MonkeyPatch) -> RunResult:
    return train(config(folder, "run"))


def loss_by_hand(policy: Path, reference: Path, examples: list[dict]) -> float:
    """Mean over the examples of the loss that ``Centred`` has, in float64, one sequence at a time."""
    found = []
    for row in examples:
        rows = [{"prompt_ids": row["prompt_ids"], "ids": ids} for ids in row["response_ids"]]
        reward = 0.3 * (logps_alone(policy, rows, "ids") - logps_alone(reference, rows, "ids"))
        scores = np.array(row["preference"])
        apart = (reward - reward.mean()) - (scores - scores.mean())
        found.append(np.mean(apart**2) + reward.mean() ** 2)
    return float(np.mean(found))


def test_examples_with_different_numbers_of_responses_are_trained_on(folder: Path, done: RunResult) -> None:
    table = read_examples(done.run.path("data", "pairs.arrow"))
    heldout = [dict(row) for row in read_examples(done.run.path("data", "heldout.arrow"))]
    assert {len(responses) for responses in table["response_ids"]} == {1, 2, 3}
    assert set(table["form"]) == {"scores"}
    figures = done.run.record("round-1/train").figures
    # Step 0: every reward is 0. The scores 0.5, -1, -0.25 and 0.5, -1 vary by 0.375 and 0.5625, and 0.5 alone by 0.
    apart = {1: 0.0, 2: 0.5625, 3: 0.375}
    assert figures["heldout_first"]["eval_loss"] == np.mean([apart[len(row["response_ids"])] for row in heldout])
    assert figures["heldout_first"]["eval_rewards/responses"] == 0.0
    own = loss_by_hand(done.policy, folder / "world" / "model", heldout)
    assert figures["heldout"]["eval_loss"] == pytest.approx(own, rel=1e-4)
    assert own < figures["heldout_first"]["eval_loss"]
    # An example with one response has no margin, so held-out examples are not all ordered.
    evaluated = done.run.record("round-1/evaluate").figures
    assert evaluated["heldout_accuracy"] is evaluated["heldout_margin"] is None


def test_each_response_has_its_tokens(folder: Path, done: RunResult) -> None:
    examples = {row["example_id"]: dict(row) for row in read_examples(done.run.path("data", "pairs.arrow"))}
    looked_at = read_table(done.run.path("round-1/tokens", "tokens.parquet")).to_pylist()
    assert len(looked_at) == 6
    assert len({len(row["tokens"]) for row in looked_at}) > 1
    for row in looked_at:
        example = examples[row["example_id"]]
        assert [len(tokens) for tokens in row["tokens"]] == [len(ids) for ids in example["response_ids"]]
        assert [len(ratios) for ratios in row["ratios"]] == [len(ids) for ids in example["response_ids"]]
        assert ["".join(tokens).split() for tokens in row["tokens"]] == [
            [*text.split(), "<eos>"] for text in example["responses"]
        ]
    # The sum of a response's log-ratios is its log-ratio.
    (row, *_) = looked_at
    rows = [{"prompt_ids": examples[row["example_id"]]["prompt_ids"], "ids": ids}
            for ids in examples[row["example_id"]]["response_ids"]]  # fmt: skip
    expected = logps_alone(done.policy, rows, "ids") - logps_alone(folder / "world" / "model", rows, "ids")
    np.testing.assert_allclose([sum(ratios) for ratios in row["ratios"]], expected, atol=1e-4)


def test_the_plan_counts_every_response(folder: Path, done: RunResult) -> None:
    plan = plan_run(config(folder, "plan"))
    assert [stage.name for stage in plan.stages][-3:] == ["round-1/train", "round-1/evaluate", "round-1/tokens"]
    (packing,) = plan.packing
    assert packing.steps == done.run.record("round-1/train").figures["steps"]
    train = next(stage for stage in plan.stages if stage.name == "round-1/train")
    assert train.seconds is not None
    assert train.seconds > 0
    assert packing.shared > 0


def test_the_report_says_that_there_are_no_pairs(done: RunResult, tmp_path: Path) -> None:
    contents = run_contents(done.run)
    assert contents.pairs_total == 0
    write_report([contents], tmp_path / "report.html")
    assert "or its examples are no pairs" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"rounds": 2, "bootstrap": None}, r"rounds: later rounds select examples by their margins, but \d+ of \d+ "
         r"examples of data\.pairs have no two responses of different worth"),
        ({"crossfit": {"folds": 2}}, r"crossfit: it gives each pair a new label p, but data\.pairs has the form "),
    ],
)  # fmt: skip
def test_what_has_no_margin_is_not_reviewed(
    folder: Path, patched: pytest.MonkeyPatch, more: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        train(config(folder, str(tmp_path / "run"), **more))
    assert not list((tmp_path / "run" / "data").glob("stage.json"))

"""Supervised training in the report: losses, perplexity, warnings that fit, and no chart without a point."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic import synthetic_run

from seralign.intervals import Interval
from seralign.report.charts import Over
from seralign.report.charts_losses import loss_charts
from seralign.report.columns import LOSS_COLUMNS, LOSSES
from seralign.report.contents import RunContents
from seralign.report.facts import facts
from seralign.report.page import write_report
from seralign.report.record import EvaluatedPolicy, RunFigures, TrainingLosses
from seralign.report.summary import headline, tiles
from seralign.report.trainings import training_losses
from seralign.report.warnings import run_warnings
from seralign.runs.figures import EvaluateFigures
from seralign.tables import table

LINES: list[dict[str, Any]] = [
    {"eval_loss": 3.0, "step": 0},
    {"loss": 2.9, "learning_rate": 2e-5, "step": 5},
    {"loss": 2.4, "learning_rate": 1e-5, "step": 10},
    {"eval_loss": math.log(8), "step": 10},
]


def supervised_run(lines: list[dict[str, Any]] = LINES, **figures: Any) -> RunContents:
    """A run whose objective is sft, made of the synthetic one; no policy ranks pairs."""
    run = synthetic_run(60, rounds=1)
    nothing: dict[str, Any] = dict.fromkeys(("heldout_accuracy", "heldout_margin", "margin_length_correlation"))
    policies = tuple(
        replace(policy, figures=replace(policy.figures, **(nothing | figures))) for policy in run.figures.policies
    )
    training = {"round 1": lines}
    config = run.config | {"objective": {"name": "sft", "weight": 1.0}}
    changed = replace(
        run.figures,
        objective="sft",
        policies=policies,
        trainings=training_losses(training, "sft"),
        warnings=(),
    )
    return replace(run, config=config, figures=changed, training=training)


def test_losses_and_perplexity_by_hand() -> None:
    """The exponential of ln 8 is 8; the loss of dpo has none."""
    (own,) = training_losses({"round 1": LINES}, "sft")
    assert own.perplexity == pytest.approx(8.0)
    assert replace(own, perplexity=8.0) == TrainingLosses(
        "round 1", "Round 1", steps=10, first=2.9, last=2.4,
        heldout_first=3.0, heldout_lowest=math.log(8), heldout_last=math.log(8), perplexity=8.0,
    )  # fmt: skip
    found = training_losses({"sft": LINES, "round 1": LINES, "baseline": [{"loss": None, "step": 3}]}, "dpo")
    assert [one.title for one in found] == ["SFT", "Round 1", "dpo alone, as many steps"]
    assert [one.perplexity for one in found] == [pytest.approx(8.0), None, None]
    assert (found[2].last, found[2].heldout_last) == (None, None)
    losses = table(LOSSES, LOSS_COLUMNS, [own])
    assert losses.rows == (("Round 1", "10", "2.900", "2.400", "3.000", "2.079", "2.079", "8.00"),)


def test_every_training_has_curves_of_loss_and_learning_rate() -> None:
    run = replace(synthetic_run(60, rounds=1), training={"sft": LINES, "round 1": LINES, "baseline": LINES})
    losses, rates = loss_charts([run], Over((run.name,)))
    names = ["SFT", "Round 1", "dpo alone, as many steps"]
    assert [panel.title for panel in losses.panels] == [panel.title for panel in rates.panels] == names
    points = [(row["step"], row["loss"], row["series"]) for row in losses.panels[0].spec["data"]["values"]]
    assert points == [(5, 2.9, "training"), (10, 2.4, "training"), (0, 3.0, "held out"), (10, 2.07944, "held out")]
    assert [(row["step"], row["rate"]) for row in rates.panels[1].spec["data"]["values"]] == [(5, 2e-5), (10, 1e-5)]
    assert rates.table is not None
    assert rates.table.rows[0] == ("SFT", "2e-05", "2e-05", "1e-05")


def test_supervised_training_is_said_in_its_own_words() -> None:
    run = supervised_run()
    assert headline(run) == "Supervised fine-tuning (SFT), on 60 demonstrations; the result is round 1."
    found = {tile.label: (tile.value, tile.note) for tile in tiles(run)}
    assert found["Demonstrations trained on"] == ("60", "20 dropped, 50 held out")
    assert found["Held-out loss"] == ("2.079", "nats a token; 3.000 at the start; perplexity 8.00")
    assert "Distance from the reference" not in found
    assert "Reference" not in dict(facts(run))


@pytest.mark.parametrize("bare", [False, True], ids=["with answers", "nothing held out, nothing answered"])
def test_no_chart_is_empty(bare: bool, tmp_path: Path) -> None:
    run = supervised_run()
    if bare:
        nothing = {"n": 0, "score": None, "kl": None, "win_rates": {}, "length": None, "distinct_2": None}
        nothing |= {"self_bleu": None, "repetition": None, "unfinished": None}
        run = supervised_run(LINES[1:3], **nothing)
        run = replace(run, answers=None)
    write_report([run], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    keys = re.findall(r'<figure id="(\w+)"', text)
    assert keys == (["loss", "rates", "costs"] if bare else ["loss", "rates", "wins", "responses", "costs"])
    assert all("data-chart" in figure for figure in re.findall("<figure.*?</figure>", text, re.DOTALL))


def warnings(objective: str, lines: list[dict[str, Any]], **policy: Any) -> dict[str, str]:
    start = EvaluateFigures(
        "initial", 10, kl=Interval(0.0, None, None, 10), length=10.0, distinct_2=0.5, repetition=0.0, unfinished=0.0
    )
    policies = (
        EvaluatedPolicy("initial", start),
        EvaluatedPolicy("round-1", replace(start, name="round 1", **policy)),
    )
    found = run_warnings(RunFigures("run", objective, policies=policies), {"round 1": lines})
    return {warning.kind: warning.advice for warning in found}


def test_the_distance_that_sft_goes_is_no_warning_and_advice_fits() -> None:
    far = {
        "kl": Interval(40.0, None, None, 10),
        "length": 20.0,
        "unfinished": 0.5,
        "distinct_2": 0.1,
        "repetition": 0.9,
    }
    assert "kl" in warnings("dpo", [], **far)
    found = warnings("sft", [], **far)
    assert set(found) == {"length", "unfinished", "diversity", "repetition"}
    assert not [advice for advice in found.values() if "beta" in advice or "bootstrap" in advice]


def test_a_heldout_loss_that_rises_again_is_overfitting() -> None:
    def ends(*losses: float) -> list[dict[str, Any]]:
        return [{"eval_loss": loss, "step": step} for step, loss in enumerate(losses)]

    assert set(warnings("sft", ends(3.0, 2.0, 2.06))) == {"overfit"}
    assert warnings("sft", ends(3.0, 2.0, 2.04)) == {}
    assert warnings("dpo", ends(0.6, 0.5, 0.7)) == {}, "that is held-out accuracy's to say"

"""Rounds that use margins only if the last policy ranks held-out pairs better than by chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
from small_run import small_config

from seralign.config import load_config
from seralign.data.table import read_table as read_examples
from seralign.errors import ConfigError
from seralign.pipeline import train
from seralign.pipeline.checks import check_tables
from seralign.pipeline.data import Tables
from seralign.report.figures import run_figures
from seralign.report.notes import run_notes
from seralign.runs import read_manifest
from seralign.runs.files import read_table

VALUES: dict[str, Any] = {
    "rounds": 2, "sft": None, "evaluation": {"prompts": 0, "token_pairs": 0},
    "world": {"pairs": 40, "prompts": 12, "heldout": 20},
}  # fmt: skip


def test_a_policy_that_ranks_badly_selects_and_makes_no_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No policy ranks 20 pairs surely better than 99%: the round trains on all pairs, and says so."""
    run = train(small_config(tmp_path / "run", scoring__min_accuracy=0.99, **VALUES)).run
    select = run.record("round-2/select").figures
    assert (select["trusted"], select["pairs"], select["kept"]) == (False, 40, 40)
    assert read_table(run.path("round-2/sample", "candidates.parquet")).num_rows == 0
    assert len(read_examples(run.path("round-2/bootstrap", "generated.arrow"))) == 0
    assert (run.record("round-2/sample").figures["prompts"], run.record("round-2/bootstrap").figures["pairs"]) == (0, 0)
    composed = run.record("round-2/compose").figures
    assert (composed["offline"], composed["generated"]) == (40, 0)
    used = read_table(run.path("round-2/compose", "training.parquet"))["used"].to_pylist()
    assert used == [True] * 40
    accuracy = run.record("round-1/evaluate").figures["heldout_accuracy"]
    said = capsys.readouterr()
    assert (
        f"round-2: held-out accuracy is {accuracy['mean']:.3f} (95% interval from {accuracy['low']:.3f}), not surely"
        in (said.out + said.err)
    )
    notes = run_notes(run_figures(run), read_manifest(run.root)["config"])
    assert sum("Round 2 used no margins" in note for note in notes) == 1
    assert not any("made no pairs" in note for note in notes)


def test_a_policy_that_ranks_well_enough_selects_by_the_rule_of_the_run(tmp_path: Path) -> None:
    """The lower end of every interval is above 0 here: 70% of the pairs are kept, and the rest are generated."""
    run = train(small_config(tmp_path / "run", scoring__min_accuracy=0.0, **VALUES)).run
    assert run.record("round-1/evaluate").figures["heldout_accuracy"]["low"] > 0
    select = run.record("round-2/select").figures
    assert (select["trusted"], select["kept"]) == (True, 28)
    assert run.record("round-2/compose").figures["generated"] > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"scoring.min_accuracy": 0.5, "rounds": 1}, r"scoring\.min_accuracy: it is of the margins in rounds after"),
        ({"scoring.min_accuracy": 1.0}, r"scoring\.min_accuracy must be in \[0, 1\), got 1\.0"),
        (
            {"scoring.min_accuracy": 0.5, "scoring.reward": "model", "scoring.reward_models": ["m"]},
            r"scoring: min_accuracy is of the implicit reward|scoring\.min_accuracy is of the implicit reward",
        ),
    ],
)
def test_settings_that_cannot_be_honoured(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, {"out": "x", "world": {}, **more})


def test_it_needs_held_out_pairs(tmp_path: Path) -> None:
    config = small_config(tmp_path / "run", scoring__min_accuracy=0.5, **VALUES)
    none = datasets.Dataset.from_list([])
    with pytest.raises(ConfigError, match=r"^scoring\.min_accuracy: there are no held-out pairs to rank; set data\.h"):
        check_tables(config, None, Tables(none, none, none, none, None, "digest"))

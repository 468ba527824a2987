"""A run that a warning ends, and warnings that cannot appear."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_run import small_config

from seralign.config import RunConfig
from seralign.data.table import read_table
from seralign.errors import ConfigError
from seralign.pipeline.data import Tables
from seralign.pipeline.run import train
from seralign.pipeline.stop_warnings import check_stop_warnings
from seralign.report.contents import run_contents
from seralign.report.facts import facts
from seralign.report.figures import run_figures
from seralign.report.text import run_tables
from seralign.runs import Run

# One prompt gives at most one generated pair, far less than the 30% that are asked for.
STOPPED: dict[str, Any] = {"bootstrap__prompts": 1, "stop__warnings": ["generated_margins", "few"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(small_config(tmp_path_factory.mktemp("stopped") / "run", **STOPPED)).run


def test_a_warning_ends_the_rounds_with_the_result_before_it(run: Run) -> None:
    assert run.record("round-1/decide").figures["stop"] is False
    decision = run.record("round-2/decide").figures
    assert decision["stop"] is True
    assert decision["reason"].startswith("warning few: ")
    assert "of round 2's pairs are generated; 30.0% were asked for." in decision["reason"]
    assert not run.exists("round-3/score")
    assert run.record("result").figures["policy"] == "round 1"
    # The baseline, which is not a round, is still trained.
    assert run.exists("baseline/evaluate")


def test_the_reason_is_in_the_report_and_in_the_terminal(run: Run) -> None:
    reason = run.record("round-2/decide").figures["reason"]
    assert dict(facts(run_contents(run)))["Why it stopped"] == [f"W{reason[1:]}"]
    console = Console(width=400, record=True)
    console.print(run_tables(run_figures(run)))
    assert f"result: round 1 in {run.root}/result ({reason})" in console.export_text()


def test_a_finished_run_reads_its_decisions_back(run: Run) -> None:
    """The figures that the decision of a round reads do not change with what is done after it."""
    before = {record.name: record.digest for record in run.stages()}
    again = train(small_config(run.root, **STOPPED)).run
    assert {record.name: record.digest for record in again.stages()} == before


@pytest.fixture(scope="module")
def tables(run: Run) -> Tables:
    heldout, prompts = (read_table(run.path("data", name)) for name in ("heldout.arrow", "heldout_prompts.arrow"))
    return Tables(read_table(run.path("data", "pairs.arrow")), heldout, prompts, prompts, None, "digest")


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("repetition", {"evaluation__prompts": 0}, "repetition needs answers to held-out prompts; set evaluation.prom"),
        ("kl", {"evaluation__temperature": 0.7}, "kl needs answers at temperature 1 and top-p 1"),
        ("win_rate", {}, "win_rate needs answers to held-out prompts and a judge; set evaluation.scorer or"),
        ("alike", {"bootstrap": None}, "alike needs generated pairs; set the section bootstrap"),
    ],
)
def test_a_warning_that_cannot_appear_is_refused(
    tables: Tables, tmp_path: Path, kind: str, changes: dict[str, Any], message: str
) -> None:
    config = small_config(tmp_path, stop__warnings=["length_bias", kind], **changes)
    with pytest.raises(ConfigError, match=rf"^stop\.warnings\[1\]: {message}"):
        check_stop_warnings(config, None, tables)
    # With one round nothing can end earlier.
    check_stop_warnings(replace(config, rounds=1), None, tables)


@pytest.mark.parametrize("kind", ["fall", "chosen_logp", "harm"])
def test_warnings_of_held_out_pairs_need_some(tables: Tables, tmp_path: Path, kind: str) -> None:
    config: RunConfig = small_config(tmp_path, stop__warnings=[kind])
    check_stop_warnings(config, None, tables)
    with pytest.raises(ConfigError, match=rf"^stop\.warnings\[0\]: {kind} needs held-out pairs"):
        check_stop_warnings(config, None, replace(tables, heldout=tables.heldout.select([])))


def test_an_unknown_warning_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^stop\.warnings\[0\] must be .*repetition.*, got 'repeats'"):
        small_config(tmp_path, stop__warnings=["repeats"])

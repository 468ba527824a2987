"""A study from its file to its page: the quick one, made small, run by the command, killed, resumed and extended."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from seralign.cli.main import main
from seralign.runs.files import file_digest
from seralign.studies.cells import plan_study
from seralign.studies.kl import best_of_kl
from seralign.studies.results import read_study
from seralign.studies.running import _begin
from seralign.studies.runs import supervised_run
from seralign.studies.worker import work

QUICK = Path(__file__).parents[2] / "configs" / "lab" / "quick.yaml"
SMALL = {
    "base.world": "{pairs: 40, demonstrations: 80, prompts: 16, heldout: 16, validation: 8}",
    "base.training.max_steps": "2",
    "base.bootstrap.prompts": "8",
    "supervised.training": "{max_steps: 4, batch_size: 16}",
    "methods.dpo.grid": "{objective.beta: [0.4, 0.1], training.max_steps: [2]}",
    "methods.sera_stable.set": "{rounds: 2, training.max_steps: 2}",
    "methods.sera_stable.grid": "{objective.beta: [0.1]}",
    "methods.sera.set": "{rounds: 3, training.max_steps: 2}",
    "methods.sera.grid": "{objective.beta: [0.1]}",
    "methods.top.set": "{rounds: 2, training.max_steps: 2}",
    "methods.top.grid": "{objective.beta: [0.1]}",
    "methods.noise_free.grid": "{objective.beta: [0.1]}",
    "reward": "{objective.name: reward, training.max_steps: 2}",
    "methods.best_of_reward": "{best_by: reward_model, best_of: [4]}",
}
METHODS = ["supervised", "dpo", "sera_stable", "sera", "top", "best_of", "noise_free", "best_of_reward"]


def command(out: Path, **changes: str) -> list[str]:
    options = SMALL | {"out": str(out)} | changes
    return ["lab", "run", str(QUICK), *(part for key, value in options.items() for part in (f"--{key}", value))]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study."""
    out = tmp_path_factory.mktemp("lab") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        assert main(command(out)) == 0
    return out


def measured(out: Path) -> dict[str, Any]:
    """What was measured, by cell; seconds are another each time."""
    found = {}
    for path in sorted(out.glob("cells/*/*/*/figures.json")):
        figures = json.loads(path.read_text(encoding="utf-8"))
        found[path.parent.name] = {key: figures[key] for key in figures if key not in ("seconds", "stages", "cost")}
    return found


def figures(out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["lab", "compare", str(out), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_method_is_run_and_compared(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(study, capsys)
    rows = found["worlds"]["A"]["temperatures"]

    assert found["finished"] == found["cells"] == len(measured(study)) == 8
    assert list(rows) == ["1.0", "0.2"]
    assert list(rows["1.0"]) == METHODS
    assert rows["1.0"]["dpo"]["win_rate"]["mean"] == 0.5
    assert rows["1.0"]["supervised"]["kl"]["mean"] == 0.0
    assert rows["1.0"]["best_of"]["kl"]["mean"] == pytest.approx(best_of_kl(4))
    assert 0.0 < rows["1.0"]["sera"]["kl"]["mean"] < 5.0
    assert rows["1.0"]["sera"]["setting"] in ("beta 0.1, round 2", "beta 0.1, round 3")
    assert rows["0.2"]["sera"]["kl"] == rows["1.0"]["sera"]["kl"]
    for row in rows["0.2"].values():
        assert -7.0 <= row["gold"]["mean"] <= 1.0
        assert 0.0 < row["figures"]["distinct_2"] <= 1.0


def test_a_reward_model_chooses_and_ranks_where_no_policy_is_trained(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = figures(study, capsys)["worlds"]["A"]
    row = world["temperatures"]["1.0"]["best_of_reward"]
    assert row["kl"]["mean"] == pytest.approx(best_of_kl(4))
    # The supervised policy's own implicit reward is 0 everywhere, which is half right.
    assert world["temperatures"]["1.0"]["supervised"]["figures"]["gold_accuracy"] == 0.5
    assert row["figures"]["gold_accuracy"] != 0.5
    assert row["gold"]["mean"] != world["temperatures"]["1.0"]["best_of"]["gold"]["mean"]
    assert len(list(study.glob("rewards/*/run/result/model.safetensors"))) == 1


def test_costs_are_those_of_the_runs(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = figures(study, capsys)["worlds"]["A"]["settings"]
    assert settings["supervised"]["–"]["cost"] is None
    assert settings["best_of_reward"]["best of 4"]["cost"] is None
    dpo, sera = (next(iter(settings[name].values()))["cost"] for name in ("dpo", "sera"))
    assert dpo["sampled"] == 0
    # Eight prompts with four answers of at most 26 tokens; 40 pairs of answers of 8 to 20 tokens, twice.
    assert 8 * 4 * 4 < sera["sampled"] < 8 * 4 * 26 * 2
    assert 2 * 40 * 2 * 8 < dpo["trained"] < 2 * 48 * 2 * 20
    assert 0 < dpo["seconds"] < 60


def test_cells_from_before_costs_were_counted_are_read(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(study, tmp_path / "old")
    for path in (tmp_path / "old").glob("cells/*/*/*/figures.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        del found["cost"]
        path.write_text(json.dumps(found), encoding="utf-8")
    before, after = (figures(root, capsys)["worlds"]["A"] for root in (study, tmp_path / "old"))
    assert after["temperatures"] == before["temperatures"]
    assert {row["cost"] for rows in after["settings"].values() for row in rows.values()} == {None}


def test_rounds_tell_their_mechanism(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = figures(study, capsys)["worlds"]["A"]["rounds"]

    assert {name: list(by_round) for name, by_round in rounds.items()} == {
        "sera_stable": ["round-1", "round-2"],
        "sera": ["round-1", "round-2", "round-3"],
        "top": ["round-1", "round-2"],
    }
    second = rounds["sera"]["round-2"]
    assert second["labels"]["selection"]["all"]["pairs"] == 40
    assert second["labels"]["selection"]["kept"]["pairs"] == 28
    generated = second["labels"]["generated"]
    assert generated["gold_right"] + generated["gold_wrong"] + generated["gold_tie"] == pytest.approx(1.0)
    assert rounds["top"]["round-2"]["labels"]["generated"] is None
    # Both rounds 1 are the objective alone on the same pairs from the same seed.
    assert rounds["sera"]["round-1"] == rounds["top"]["round-1"]


def test_rounds_are_held_against_the_second_and_against_rules(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(study, capsys)
    world = found["worlds"]["A"]
    rounds, late = world["rounds"]["sera"], world["later_rounds"]["sera"]
    first, second, third = (rounds[f"round-{number}"] for number in (1, 2, 3))

    assert list(late) == ["round-2", "round-3"]
    for name, temperature in (("gain", "1.0"), ("gain_sharp", "0.2")):
        gain = third["test"]["answers"][temperature]["gold"] - second["test"]["answers"][temperature]["gold"]
        assert late["round-3"][name]["mean"] == pytest.approx(gain)
    assert late["round-3"]["gold_right"]["mean"] == third["labels"]["generated"]["gold_right"]
    assert late["round-3"]["longer"] is not None

    assert found["stopping"]["runs"] == 1
    never = found["stopping"]["rules"]["never"]
    golds = [each["test"]["answers"]["1.0"]["gold"] for each in (first, second, third)]
    assert never["gold"]["1.0"] == golds[2]
    assert never["lost"]["1.0"] == pytest.approx(max(golds) - golds[2])
    assert sum(row["rounds"] for row in found["stopping"]["budgets"]) == 2


def test_only_figures_are_kept(study: Path) -> None:
    assert not list(study.glob("cells/*/*/*/run"))
    assert list(study.glob("supervised/*/run/result/model.safetensors"))


def test_tables_name_every_method(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "compare", str(study)]) == 0
    told = capsys.readouterr().out

    assert all(name in told for name in METHODS)
    assert "world A, answers at temperature 0.2" in told
    assert "8 of 8 cells finished" in told
    assert "world A, do the rounds hold up" in told
    assert "stopping rules, runs of three rounds or more: 1" in told
    assert "rounds after the first by KL" in told


def test_page_has_its_tables_and_plots(study: Path, tmp_path: Path) -> None:
    page = tmp_path / "evidence.md"
    assert main(["lab", "report", str(study), "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    plots = re.findall(r"\]\((evidence/[^)]+\.svg)\)", text)

    assert len(plots) == len(list((tmp_path / "evidence").iterdir())) == 8
    for plot in plots:
        assert ElementTree.parse(tmp_path / plot).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert all(f"| {name} |" in text for name in METHODS)
    assert text.index("## World A") < text.index("## All worlds") < text.index("**Stopping rules, runs of three")
    assert "**World A, all settings, means over seeds**" in text
    settings = text.partition("**World A, all settings")[2].partition("\n\n**")[0]
    assert "| dpo | beta 0.4, max_steps 2 |" in settings
    assert "| dpo | beta 0.1, max_steps 2 |" in settings
    drawn = {plot: (tmp_path / plot).read_bytes() for plot in plots}
    assert main(["lab", "report", str(study), "--page", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == text
    assert {plot: (tmp_path / plot).read_bytes() for plot in plots} == drawn


def test_a_killed_study_goes_on_and_ends_as_if_it_had_not_been(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "killed"
    line = [sys.executable, "-m", "seralign.cli.main", *command(out), "--jobs", "2"]
    running = subprocess.Popen(line, start_new_session=True, stderr=subprocess.DEVNULL)
    while running.poll() is None and len(measured(out)) < 2:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    done = set(measured(out))
    assert 2 <= len(done) < 8

    assert main(command(out)) == 0
    assert measured(out) == measured(study)


def test_a_study_killed_while_it_began_begins(study: Path, tmp_path: Path) -> None:
    (tmp_path / "study.json.tmp").write_text("{", encoding="utf-8")
    _begin(read_study(study), tmp_path)

    assert read_study(tmp_path) == read_study(study)


def test_a_worker_ends_with_the_process_that_started_it(study: Path, tmp_path: Path) -> None:
    """Whoever that was when the worker looks first."""
    _begin(read_study(study), tmp_path)
    work(tmp_path, os.getpid())

    assert not measured(tmp_path)


def test_a_run_that_was_begun_before_the_study_was_moved_begins_again(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    moved = tmp_path / "moved"
    shutil.copytree(study, moved)
    supervised = plan_study(read_study(study))[0][0].supervised
    assert supervised is not None
    shutil.rmtree(supervised.policy(moved))

    supervised_run(supervised, moved)
    weights = [supervised.policy(root) / "model.safetensors" for root in (study, moved)]
    assert file_digest(weights[0]) == file_digest(weights[1])


def test_failed_cells_are_told_and_the_others_stay(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = {path: path.stat().st_mtime_ns for path in study.glob("cells/*/*/*/figures.json")}
    choosy = {"rounds": 2, "training.max_steps": 2, "selection.rule": "threshold", "selection.threshold": 1000.0}
    broken = {"methods.broken.set": json.dumps(choosy)}
    capsys.readouterr()

    assert main(command(study, **broken)) == 2
    printed = capsys.readouterr()
    mistake = "round-2: selection.rule threshold"
    at_once, _ = printed.err.split("error: ")
    assert "failed: " in at_once
    assert mistake in " ".join(at_once.split())
    told = printed.err.splitlines()[-1]
    assert told.startswith(f"error: 1 of 9 cells failed, the first with: {mistake}")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert list(figures(study, capsys)["worlds"]["A"]["temperatures"]["1.0"]) == METHODS


def test_mistakes_end_with_one_line(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "note.txt").write_text("mine", encoding="utf-8")
    mistakes = [
        (command(tmp_path), f"{tmp_path} is not empty and holds no study"),
        (["lab", "compare", str(tmp_path)], f"{tmp_path}: no study here (study.json is missing)"),
        (
            command(tmp_path / "x", **{"methods.dpo.set.objektive": "3"}),
            "worlds.A, methods.dpo: objektive: unknown key",
        ),
        (
            ["lab", "report", str(study), "--page", str(tmp_path / "page")],
            f"--page {tmp_path}/page: give the name of a",
        ),
        ([*command(tmp_path / "x"), "--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["lab", "rum"], "no command lab 'rum'; the commands are run, status, compare, report"),
    ]
    for arguments, told in mistakes:
        capsys.readouterr()
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(f"error: {told}")

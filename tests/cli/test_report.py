"""``seralign report`` and ``seralign show`` on runs made by hand: what they write, print and refuse."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path

import pytest
from hand_made import add_data, new_run, pair, whole_run

from seralign.cli.main import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return whole_run(tmp_path / "first").root


def test_the_report_of_a_run_lies_in_its_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path for path in run.rglob("*") if path.is_file()}
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"report: {run / 'report.html'}"]
    assert {path for path in run.rglob("*") if path.is_file()} - before == {run / "report.html"}
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")


def test_several_runs_are_compared_where_the_command_is_given(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = whole_run(tmp_path / "second").root
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run), str(other)]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'seralign-report.html'}\n"
    page = (tmp_path / "seralign-report.html").read_text(encoding="utf-8")
    assert "first" in page
    assert "second" in page
    assert not (run / "report.html").exists()


def test_out_and_open(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)))
    out = tmp_path / "a page.html"
    assert main(["report", str(run), "--out", str(out), "--open"]) == 0
    assert out.is_file()
    assert opened == [(tmp_path / "a page.html").as_uri()]
    assert opened[0].endswith("/a%20page.html")
    # The browser refused.
    assert "no browser was found" in capsys.readouterr().out


def test_a_run_that_was_killed_has_a_report_too(tmp_path: Path) -> None:
    begun = new_run(tmp_path / "begun")
    assert main(["report", str(begun.root)]) == 0
    add_data(begun, [pair("a")])
    assert main(["report", str(begun.root)]) == 0
    assert main(["show", str(begun.root)]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report", "nowhere"], "nowhere: no run here (run.json is missing)"),
        (["report", "first", "--out", "no/such/folder/page.html"], "no/such/folder/page.html"),
    ],
)
def test_mistakes_are_one_clear_error(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(run.parent)
    assert main(arguments) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert says in error


def test_show_has_the_warnings_as_text_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hand_made import add_policy

    run = new_run(tmp_path / "run")
    add_data(run, [pair("a")])
    add_policy(run, "initial", "initial")
    add_policy(run, "round-1", "round 1", length=25.0)
    assert main(["show", str(run.root), "--json"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert (warning["kind"], warning["where"], warning["value"], warning["limit"]) == ("length", "round 1", 2.5, 1.3)
    assert main(["show", str(run.root)]) == 0
    shown = capsys.readouterr().out
    assert "Answers of round 1 are 2.5 times as long as initial's: 25.0 tokens." in shown
    assert "The run has not finished" in shown

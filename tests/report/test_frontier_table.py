"""The frontier of reward and distance over runs: which policies no other beats at less KL."""

from __future__ import annotations

from pathlib import Path

import pytest
from hand_made import add_data, add_policy, interval, new_run, pair

from seralign.cli.main import main
from seralign.report.contents import RunContents, run_contents
from seralign.report.frontier import frontier_table


def run_of(folder: Path, policies: dict[str, tuple[float, float] | None]) -> RunContents:
    """A run with policies of (KL, score); None for a policy without a KL."""
    run = new_run(folder, rounds=2)
    add_data(run, [pair("a")])
    for name, point in policies.items():
        stage = "initial" if name == "initial" else name.replace(" ", "-")
        known = {} if point is None else {"kl": interval(point[0])}
        add_policy(run, stage, name, score=interval(0.0 if point is None else point[1]), **known)
    return run_contents(run)


def test_policies_of_all_runs_by_distance_with_those_that_no_other_beats(tmp_path: Path) -> None:
    """Of equal points, the first is on the frontier; at the same KL, the higher score."""
    runs = [
        run_of(tmp_path / "low", {"initial": (0.0, 0.1), "round 1": (2.0, 0.3), "round 2": (5.0, 0.4)}),
        run_of(tmp_path / "high", {"initial": (0.0, 0.1), "round 1": (2.0, 0.5), "round 2": (6.0, 0.6)}),
    ]
    table = frontier_table(runs)
    assert table is not None
    found = [(row[0], row[1], row[-1] == "yes") for row in table.rows]
    names = [title for _, title, _ in found]
    assert [(run, best) for run, _, best in found] == [
        ("low", True), ("high", False), ("low", False), ("high", True), ("low", False), ("high", True),
    ]  # fmt: skip
    assert names[2:] == ["round 1", "round 1", "round 2", "round 2"]


def test_policies_without_both_figures_are_left_out(tmp_path: Path) -> None:
    assert frontier_table([run_of(tmp_path / "one", {"initial": (0.0, 0.1), "round 1": None})]) is None
    two = frontier_table([run_of(tmp_path / "two", {"initial": (0.0, 0.1), "round 1": (1.0, 0.0), "round 2": None})])
    assert two is not None
    assert [row[-1] for row in two.rows] == ["yes", "–"]


def test_the_table_is_printed_beside_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(tmp_path / "run", {"initial": (0.0, 0.1), "round 1": (2.0, 0.3)})
    assert main(["report", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "Reward against distance from the reference" in printed
    assert printed.rstrip().endswith(f"report: {tmp_path / 'run' / 'report.html'}")

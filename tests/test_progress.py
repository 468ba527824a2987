"""Progress in a log file: a line now and then with rate and time left, and a closing one."""

from __future__ import annotations

import pytest

from seralign import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


def test_a_line_tells_rate_and_time_left(clock: list[float], told: list[str]) -> None:
    with progress.bar("training", 100, "step") as bar:
        bar.at(20)
        clock[0] += 40.0
        bar.note("loss 0.5")
        bar.at(40)
        clock[0] += 10.0
        bar.at(45)
        assert told == ["training: 40/100, 2.0 s/step, 0:02:00 left  loss 0.5"]
        clock[0] += 110.0
        bar.at(100)
    assert told[-1] == "training: 100/100, 2.0 s/step, took 0:02:40  loss 0.5"


def test_work_that_is_complete_after_a_while_is_told_once(clock: list[float], told: list[str]) -> None:
    with progress.bar("training", 100, "step") as bar:
        bar.at(0)
        clock[0] += 40.0
        bar.at(100)
        bar.note("loss 0.5")
    assert told == ["training: 100/100, 2.5 step/s, took 0:00:40  loss 0.5"]


def test_what_is_advanced_counts_from_nothing(clock: list[float], told: list[str]) -> None:
    with progress.bar("scoring", 10) as bar:
        clock[0] += 5.0
        bar.advance(10)
    assert told == ["scoring: 10/10, 2.0 it/s, took 0:00:05"]


@pytest.mark.parametrize(
    ("done", "seconds", "rate"),
    [(50, 5.0, "10.0 prompt/s"), (1, 1.0, "1.0 prompt/s"), (2, 50.0, "25.0 s/prompt"), (1, 150.0, "2.5 min/prompt")],
)
def test_slow_work_is_told_by_the_time_of_one(
    clock: list[float], told: list[str], done: int, seconds: float, rate: str
) -> None:
    with progress.bar("label", 50, "prompt") as bar:
        bar.at(0)
        clock[0] += seconds
        bar.at(done)
    assert told[-1].startswith(f"label: {done}/50, {rate}, ")

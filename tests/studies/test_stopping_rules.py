"""Stopping rules replayed and rounds by KL, by hand."""

from __future__ import annotations

import pytest

from seralign.studies.figures import RuleFigures
from seralign.studies.stopping import Seen, stopping


def run(*rounds: tuple[float, float, float, float]) -> list[Seen]:
    return [Seen(accuracy, kl, {"1.0": gold, "0.2": sharp}) for accuracy, kl, gold, sharp in rounds]


RUNS = [
    # Accuracy falls by .03 while gold rises, then by .06 while gold rises still.
    run((0.65, 1.0, 0.0, 0.5), (0.62, 3.0, 0.2, 0.4), (0.56, 5.0, 0.3, 0.1)),
    # Accuracy rises while gold falls, by little and by much.
    run((0.60, 0.5, 0.1, 0.1), (0.61, 2.0, 0.09, 0.2), (0.62, 9.0, -0.3, 0.3)),
]


def test_rules_are_replayed() -> None:
    rules = stopping(RUNS).rules

    assert rules["never"].round == 3.0
    assert rules["never"].gold == pytest.approx({"1.0": 0.0, "0.2": 0.2})
    # The best rounds have .3 and .1 at the first temperature, .5 and .3 at the other.
    assert rules["never"].lost == pytest.approx({"1.0": 0.2, "0.2": 0.2})
    # The first run ends after round 2 with round 1, the second with round 3.
    assert rules["margin_accuracy, min_gain 0"].round == 2.0
    assert rules["margin_accuracy, min_gain 0"].gold["1.0"] == pytest.approx((0.0 - 0.3) / 2)
    # A fall of .03 is forgiven, one of .06 is not: round 2.
    assert rules["margin_accuracy, min_gain -0.05"].round == 2.5
    assert rules["margin_accuracy, min_gain -0.05"].gold["1.0"] == pytest.approx((0.2 - 0.3) / 2)
    assert rules["margin_accuracy, min_gain -0.1"] == rules["never"]


def test_rounds_by_kl() -> None:
    budgets = stopping(RUNS).budgets

    assert [(row.low, row.high, row.rounds) for row in budgets] == [
        (0.0, 2.0, 0),
        (2.0, 4.0, 2),
        (4.0, 6.0, 1),
        (6.0, 8.0, 0),
        (8.0, None, 1),
    ]
    assert [row.harmed for row in budgets] == [None, 0.0, 0.0, None, 1.0]
    assert budgets[1].gain == pytest.approx((0.2 - 0.01) / 2)
    assert budgets[4].gain == pytest.approx(-0.39)


def test_no_runs_is_no_error() -> None:
    found = stopping([])
    assert found.rules["never"] == RuleFigures(None, {}, {})
    assert {row.rounds for row in found.budgets} == {0}

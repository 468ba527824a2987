"""The stopping rule, by hand."""

from __future__ import annotations

from seralign.config import StopConfig
from seralign.loop.stop import RoundGain, decide


def gains(*accuracies: float | None) -> list[RoundGain]:
    return [RoundGain(index, accuracy, None) for index, accuracy in enumerate(accuracies, start=1)]


def wins(*rates: float | None) -> list[RoundGain]:
    return [RoundGain(index, None, rate) for index, rate in enumerate(rates, start=1)]


ACCURACY = StopConfig("margin_accuracy")
WIN_RATE = StopConfig("win_rate")


def test_the_first_round_always_goes_on_unless_it_is_the_last() -> None:
    assert not decide(gains(0.4), ACCURACY, rounds=3).stop
    only = decide(gains(0.4), ACCURACY, rounds=1)
    assert (only.stop, only.reason, only.best_round) == (True, "all rounds done", 1)


def test_accuracy_that_no_longer_rises_stops_at_the_best_round() -> None:
    decision = decide(gains(0.60, 0.65, 0.65), ACCURACY, rounds=5)
    assert decision.stop
    assert decision.best_round == 2
    assert "round 3 0.650, best before it round 2 0.650" in decision.reason


def test_patience_waits_and_a_late_gain_wins() -> None:
    patient = StopConfig("margin_accuracy", patience=2)
    assert not decide(gains(0.60, 0.59), patient, rounds=5).stop
    assert decide(gains(0.60, 0.59, 0.61), patient, rounds=5).best_round == 3
    stopped = decide(gains(0.60, 0.59, 0.58), patient, rounds=5)
    assert (stopped.stop, stopped.best_round) == (True, 1)


def test_min_gain_is_the_least_that_counts() -> None:
    rule = StopConfig("margin_accuracy", min_gain=0.02)
    assert decide(gains(0.60, 0.61), rule, rounds=5).stop
    assert not decide(gains(0.60, 0.63), rule, rounds=5).stop


def test_win_rate_is_against_the_round_before() -> None:
    assert not decide(wins(None, 0.55), WIN_RATE, rounds=5).stop
    decision = decide(wins(None, 0.55, 0.48), WIN_RATE, rounds=5)
    assert (decision.stop, decision.best_round) == (True, 2)
    assert "round 3 wins 0.480 against the round before" in decision.reason


def test_never_runs_all_rounds_and_takes_the_last() -> None:
    rule = StopConfig("never")
    assert not decide(gains(0.7, 0.1), rule, rounds=3).stop
    decision = decide(gains(0.7, 0.1, 0.0), rule, rounds=3)
    assert (decision.stop, decision.best_round) == (True, 3)


def test_what_was_not_measured_counts_as_a_gain() -> None:
    assert decide(gains(None, None), ACCURACY, rounds=2).best_round == 2

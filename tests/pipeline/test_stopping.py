"""The stopping rule, by hand."""

from __future__ import annotations

from seralign.config import StopConfig
from seralign.pipeline.stopping import RoundGain, decide


def gains(*accuracies: float | None) -> list[RoundGain]:
    return [RoundGain(index, accuracy, {}) for index, accuracy in enumerate(accuracies, start=1)]


def wins(*rates: dict[int, float]) -> list[RoundGain]:
    return [RoundGain(index, None, each) for index, each in enumerate(rates, start=1)]


ACCURACY = StopConfig("margin_accuracy", min_gain=0.0)
WIN_RATE = StopConfig("win_rate")


def test_the_first_round_never_stops_the_run_unless_it_is_the_last() -> None:
    first = decide(gains(0.4), ACCURACY, rounds=3)
    assert (first.stop, first.reason, first.best_round) == (False, "continue", 1)
    only = decide(gains(0.4), ACCURACY, rounds=1)
    assert (only.stop, only.reason, only.best_round) == (True, "all rounds done", 1)


def test_accuracy_that_no_longer_rises_stops_at_the_best_round() -> None:
    decision = decide(gains(0.60, 0.65, 0.65), ACCURACY, rounds=5)
    assert decision.stop
    assert decision.best_round == 2
    assert "round 3 0.650, best before it round 2 0.650" in decision.reason


def test_patience_waits_and_a_late_gain_wins() -> None:
    patient = StopConfig("margin_accuracy", min_gain=0.0, patience=2)
    assert not decide(gains(0.60, 0.59), patient, rounds=5).stop
    assert decide(gains(0.60, 0.59, 0.61), patient, rounds=5).best_round == 3
    stopped = decide(gains(0.60, 0.59, 0.58), patient, rounds=5)
    assert (stopped.stop, stopped.best_round) == (True, 1)


def test_min_gain_is_the_least_that_counts() -> None:
    rule = StopConfig("margin_accuracy", min_gain=0.02)
    assert decide(gains(0.60, 0.61), rule, rounds=5).stop
    assert not decide(gains(0.60, 0.63), rule, rounds=5).stop


def test_a_small_fall_of_accuracy_is_forgiven_unless_told_otherwise() -> None:
    forgiving = StopConfig("margin_accuracy")
    assert not decide(gains(0.65, 0.61), forgiving, rounds=5).stop
    decision = decide(gains(0.65, 0.61, 0.55), forgiving, rounds=5)
    assert (decision.stop, decision.best_round) == (True, 2)
    assert "round 3 0.550, best before it round 1 0.650" in decision.reason
    # Falls that are forgiven one by one do not add up.
    assert decide(gains(0.65, 0.61, 0.61, 0.59), forgiving, rounds=9).stop


def test_win_rate_forgives_nothing() -> None:
    assert decide(wins({}, {1: 0.49}), WIN_RATE, rounds=5).stop


def test_win_rate_is_against_the_best_round_so_far() -> None:
    assert not decide(wins({}, {1: 0.55}), WIN_RATE, rounds=5).stop
    decision = decide(wins({}, {1: 0.55}, {1: 0.6, 2: 0.48}), WIN_RATE, rounds=5)
    assert (decision.stop, decision.best_round) == (True, 2)
    assert "round 3 wins 0.480 against round 2" in decision.reason


def test_a_win_over_a_bad_round_is_no_gain() -> None:
    patient = StopConfig("win_rate", patience=2)
    decision = decide(wins({}, {1: 0.9}, {2: 0.1}, {2: 0.4, 3: 0.9}), patient, rounds=9)
    assert (decision.stop, decision.best_round) == (True, 2)


def test_never_runs_all_rounds_and_takes_the_last() -> None:
    rule = StopConfig("never")
    assert not decide(gains(0.7, 0.1), rule, rounds=3).stop
    decision = decide(gains(0.7, 0.1, 0.0), rule, rounds=3)
    assert (decision.stop, decision.best_round) == (True, 3)

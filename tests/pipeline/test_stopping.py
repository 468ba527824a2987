"""The stopping rule, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from seralign.config import StopConfig
from seralign.errors import ConfigError
from seralign.intervals import Interval
from seralign.pipeline.stopping import RoundGain, decide


def gains(*accuracies: float | None) -> list[RoundGain]:
    return [RoundGain(index, accuracy, {}) for index, accuracy in enumerate(accuracies, start=1)]


def wins(*rates: dict[int, float], half: float = 0.03) -> list[RoundGain]:
    """Rounds with these win rates, each with an interval of ``half`` on either side."""
    return [
        RoundGain(index, None, {past: Interval(rate, rate - half, rate + half, 200) for past, rate in each.items()})
        for index, each in enumerate(rates, start=1)
    ]


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
    assert decision.reason == (
        "no gain in win_rate (round 3 wins 48.0% (45.0 to 51.0) against round 2; the win rate is not above 50.0%)"
    )


def test_a_win_over_a_bad_round_is_no_gain() -> None:
    patient = StopConfig("win_rate", patience=2)
    decision = decide(wins({}, {1: 0.9}, {2: 0.1}, {2: 0.4, 3: 0.9}), patient, rounds=9)
    assert (decision.stop, decision.best_round) == (True, 2)


def test_never_runs_all_rounds_and_takes_the_last() -> None:
    rule = StopConfig("never")
    assert not decide(gains(0.7, 0.1), rule, rounds=3).stop
    decision = decide(gains(0.7, 0.1, 0.0), rule, rounds=3)
    assert (decision.stop, decision.best_round) == (True, 3)


@pytest.mark.parametrize(
    ("rate", "gains"),
    [
        # Win rate, and whether it is a gain by the lower end, the win rate itself, the upper end of 3 points around it.
        (0.54, (True, True, True)),
        (0.52, (False, True, True)),
        (0.48, (False, False, True)),
        (0.46, (False, False, False)),
    ],
)
def test_the_bound_decides_which_end_of_the_interval_must_be_above_half(rate: float, gains: tuple[bool, ...]) -> None:
    history = wins({}, {1: rate})
    found = tuple(
        not decide(history, StopConfig("win_rate", bound=each), 5).stop for each in ("lower", "mean", "upper")
    )
    assert found == gains


def test_the_bound_is_compared_with_the_least_gain_and_named_in_the_reason() -> None:
    rule = StopConfig("win_rate", min_gain=0.02, bound="lower")
    assert not decide(wins({}, {1: 0.551}), rule, rounds=5).stop
    decision = decide(wins({}, {1: 0.549}), rule, rounds=5)
    assert (decision.stop, decision.best_round) == (True, 1)
    assert decision.reason == (
        "no gain in win_rate (round 2 wins 54.9% (51.9 to 57.9) against round 1; the lower end of the interval is not "
        "above 52.0%)"
    )


def warned(history: list[RoundGain], **warnings: str) -> list[RoundGain]:
    """The same rounds, the last one with these warnings."""
    return [*history[:-1], replace(history[-1], warnings=warnings)]


@pytest.mark.parametrize("rule", [ACCURACY, StopConfig("never"), StopConfig(patience=3)], ids=lambda rule: rule.metric)
def test_a_warning_stops_at_once_and_the_round_is_no_gain(rule: StopConfig) -> None:
    decision = decide(warned(gains(0.60, 0.65, 0.70), repetition="35% repeat.", kl="7 nats."), rule, rounds=5)
    assert (decision.stop, decision.best_round) == (True, 2)
    assert decision.reason == "warning repetition: 35% repeat. warning kl: 7 nats."
    assert not decide(gains(0.60, 0.65, 0.70), rule, rounds=5).stop


def test_a_warning_in_round_1_leaves_round_1() -> None:
    decision = decide(warned(gains(0.60), length="Longer."), StopConfig("never"), rounds=3)
    assert (decision.stop, decision.reason, decision.best_round) == (True, "warning length: Longer.", 1)


def test_a_bound_without_a_win_rate_and_a_warning_given_twice_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"bound: lower is a bound of a win rate, and metric is margin_accuracy"):
        StopConfig(bound="lower")
    with pytest.raises(ConfigError, match=r"warnings: kl is given twice"):
        StopConfig(warnings=["kl", "length", "kl"])

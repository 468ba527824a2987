"""The stopping rule: after which round a run ends, and which round's policy is its result. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seralign.config import StopConfig
from seralign.intervals import Interval
from seralign.tables import percent, share


@dataclass(frozen=True, slots=True)
class RoundGain:
    """What the rule reads after a round. A figure that was not measured is None.

    Args:
        round_index: The round.
        margin_accuracy: Share of held-out pairs with a margin above zero.
        win_rates: Against earlier rounds, by number; round 0 is the policy that round 1 starts from.
        warnings: Those of ``stop.warnings`` that the round has: kind to text.
    """

    round_index: int
    margin_accuracy: float | None
    win_rates: Mapping[int, Interval]
    warnings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to stop after the last round, the reason, and the round whose policy is the result so far."""

    stop: bool
    reason: str
    best_round: int


def decide(history: Sequence[RoundGain], config: StopConfig, rounds: int) -> Decision:
    """Apply the rule to the rounds so far.

    The result is the last round that gained; round 1 counts as one. What a gain is depends on ``stop.metric``:

    - ``margin_accuracy``: the accuracy is more than ``min_gain`` above the highest of the earlier rounds that gained.
      A negative ``min_gain`` tolerates a fall.
    - ``win_rate``: the ``bound`` of the win rate against the last round that gained is above 0.5 + ``min_gain``.
    - ``never``: every round gains.

    After ``patience`` rounds without a gain, one after the other, the run stops. A round with a warning of
    ``stop.warnings`` is no gain and stops the run at once.
    """
    last = history[-1]
    best = bar = compared = history[0]
    since = 0
    for entry in history[1:]:
        compared = bar
        if not entry.warnings and (config.metric == "never" or _gains(entry, bar, config)):
            best, since = entry, 0
            # Where falls are tolerated, many small ones must not add up.
            bar = max(bar, entry, key=_accuracy) if config.metric == "margin_accuracy" else entry
        else:
            since += 1
    if last.warnings:
        found = [f"warning {kind}: {text}" for kind, text in last.warnings.items()]
        return Decision(True, " ".join(found), best.round_index)
    if since >= config.patience:
        times = "" if config.patience == 1 else f" {config.patience} times in a row"
        reason = f"no gain in {config.metric}{times} ({_compared(last, compared, config)})"
        return Decision(True, reason, best.round_index)
    done = last.round_index >= rounds
    return Decision(done, "all rounds done" if done else "continue", best.round_index)


def _gains(entry: RoundGain, best: RoundGain, config: StopConfig) -> bool:
    if config.metric == "win_rate":
        return _bound(entry.win_rates[best.round_index], config) > 0.5 + config.least_gain
    return _accuracy(entry) > _accuracy(best) + config.least_gain


def _bound(rate: Interval, config: StopConfig) -> float:
    bound = {"lower": rate.low, "mean": rate.mean, "upper": rate.high}[config.bound]
    # A win rate of verdicts always has an interval.
    assert bound is not None
    return bound


def _accuracy(entry: RoundGain) -> float:
    assert entry.margin_accuracy is not None
    return entry.margin_accuracy


def _compared(entry: RoundGain, best: RoundGain, config: StopConfig) -> str:
    if config.metric == "win_rate":
        rate = entry.win_rates[best.round_index]
        above = {"lower": "lower end of the interval", "mean": "win rate", "upper": "upper end of the interval"}
        return (
            f"round {entry.round_index} wins {share(rate)} against round {best.round_index}; the "
            f"{above[config.bound]} is not above {percent(0.5 + config.least_gain)}"
        )
    return (
        f"round {entry.round_index} {entry.margin_accuracy:.3f}, "
        f"best before it round {best.round_index} {best.margin_accuracy:.3f}"
    )

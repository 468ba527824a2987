"""The stopping rule: after which round a run ends, and which round's policy is its result. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seralign.config import StopConfig


@dataclass(frozen=True, slots=True)
class RoundGain:
    """What the rule reads after a round. A figure that was not measured is None.

    ``win_rates``: against earlier rounds, by number; round 0 is the policy that round 1 starts from.
    """

    round_index: int
    margin_accuracy: float | None
    win_rates: dict[int, float]


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
    - ``win_rate``: the win rate against the last round that gained is above 0.5 + ``min_gain``.
    - ``never``: every round gains.

    After ``patience`` rounds without a gain, one after the other, the run stops.
    """
    last = history[-1]
    best = bar = compared = history[0]
    since = 0
    for entry in history[1:]:
        compared = bar
        if config.metric == "never" or _gains(entry, bar, config):
            best, since = entry, 0
            # Where falls are tolerated, many small ones must not add up.
            bar = max(bar, entry, key=_accuracy) if config.metric == "margin_accuracy" else entry
        else:
            since += 1
    if since >= config.patience:
        times = "" if config.patience == 1 else f" {config.patience} times in a row"
        reason = f"no gain in {config.metric}{times} ({_compared(last, compared, config)})"
        return Decision(True, reason, best.round_index)
    done = last.round_index >= rounds
    return Decision(done, "all rounds done" if done else "continue", best.round_index)


def _gains(entry: RoundGain, best: RoundGain, config: StopConfig) -> bool:
    if config.metric == "win_rate":
        return entry.win_rates[best.round_index] > 0.5 + config.least_gain
    return _accuracy(entry) > _accuracy(best) + config.least_gain


def _accuracy(entry: RoundGain) -> float:
    assert entry.margin_accuracy is not None
    return entry.margin_accuracy


def _compared(entry: RoundGain, best: RoundGain, config: StopConfig) -> str:
    if config.metric == "win_rate":
        rate = entry.win_rates[best.round_index]
        return f"round {entry.round_index} wins {rate:.3f} against round {best.round_index}"
    return (
        f"round {entry.round_index} {entry.margin_accuracy:.3f}, "
        f"best before it round {best.round_index} {best.margin_accuracy:.3f}"
    )

"""When the rounds end, and which round's policy is the result. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seralign.config import StopConfig


@dataclass(frozen=True, slots=True)
class RoundGain:
    """What the rule looks at after a round; None where it was not measured.

    ``win_rates``: against earlier rounds by number, 0 being the starting policy.
    """

    round_index: int
    margin_accuracy: float | None
    win_rates: dict[int, float]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to stop after the last round and why, and the round whose policy is the result so far."""

    stop: bool
    reason: str
    best_round: int


def decide(history: Sequence[RoundGain], config: StopConfig, rounds: int) -> Decision:
    """Apply the rule to the rounds so far.

    A round gains when its ``margin_accuracy`` is more than ``min_gain`` above the highest of the rounds that gained
    before it, or its ``win_rate`` against the last of them above one half plus ``min_gain``; a negative one forgives a
    fall. The result is the last round that gained. With ``never`` every round gains.
    """
    last = history[-1]
    best = bar = compared = history[0]
    since = 0
    for entry in history[1:]:
        compared = bar
        if config.metric == "never" or _gains(entry, bar, config):
            best, since = entry, 0
            # Where falls are forgiven, many small ones must not add up.
            bar = max(bar, entry, key=_accuracy) if config.metric == "margin_accuracy" else entry
        else:
            since += 1
    if since >= config.patience:
        times = "" if config.patience == 1 else f" {config.patience} times in a row"
        reason = f"no gain in {config.metric}{times} ({_told(last, compared, config)})"
        return Decision(True, reason, best.round_index)
    done = last.round_index >= rounds
    return Decision(done, "all rounds done" if done else "goes on", best.round_index)


def _gains(entry: RoundGain, best: RoundGain, config: StopConfig) -> bool:
    if config.metric == "win_rate":
        return entry.win_rates[best.round_index] > 0.5 + config.least_gain
    return _accuracy(entry) > _accuracy(best) + config.least_gain


def _accuracy(entry: RoundGain) -> float:
    assert entry.margin_accuracy is not None
    return entry.margin_accuracy


def _told(entry: RoundGain, best: RoundGain, config: StopConfig) -> str:
    if config.metric == "win_rate":
        rate = entry.win_rates[best.round_index]
        return f"round {entry.round_index} wins {rate:.3f} against round {best.round_index}"
    return (
        f"round {entry.round_index} {entry.margin_accuracy:.3f}, "
        f"best before it round {best.round_index} {best.margin_accuracy:.3f}"
    )

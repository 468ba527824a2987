"""When the rounds end, and which round's policy is the result. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seralign.config import StopConfig


@dataclass(frozen=True, slots=True)
class RoundGain:
    """What the rule looks at after a round; None where it was not measured."""

    round_index: int
    margin_accuracy: float | None
    win_rate: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to stop after the last round, why, and the round whose policy is the result so far."""

    stop: bool
    reason: str
    best_round: int


def decide(history: Sequence[RoundGain], config: StopConfig, rounds: int) -> Decision:
    """Apply the rule to the rounds so far.

    ``margin_accuracy``: a round gains when it is more than ``min_gain`` above the best round before it.
    ``win_rate``: a round gains when it beats the round before it by more than one half plus ``min_gain``.
    ``never``: all rounds are run and the last one is the result. A round whose figure was not measured gains.
    """
    last = history[-1].round_index
    best, since = history[0], 0
    for entry in history[1:]:
        if config.metric == "never" or _gains(entry, best, config):
            best, since = entry, 0
        else:
            since += 1
    if since >= config.patience:
        rounds_word = "round" if config.patience == 1 else f"{config.patience} rounds in a row"
        reason = f"no gain in {config.metric} for {rounds_word} ({_told(history[-1], best, config)})"
        return Decision(True, reason, best.round_index)
    reason = "all rounds done" if last >= rounds else "goes on"
    return Decision(last >= rounds, reason, best.round_index)


def _gains(entry: RoundGain, best: RoundGain, config: StopConfig) -> bool:
    if config.metric == "win_rate":
        return entry.win_rate is None or entry.win_rate > 0.5 + config.min_gain
    if entry.margin_accuracy is None or best.margin_accuracy is None:
        return True
    return entry.margin_accuracy > best.margin_accuracy + config.min_gain


def _told(entry: RoundGain, best: RoundGain, config: StopConfig) -> str:
    if config.metric == "win_rate":
        return f"round {entry.round_index} wins {entry.win_rate:.3f} against the round before"
    return (
        f"round {entry.round_index} {entry.margin_accuracy:.3f}, "
        f"best before it round {best.round_index} {best.margin_accuracy:.3f}"
    )

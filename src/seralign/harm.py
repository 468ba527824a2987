"""Rules, based on confidence intervals, for whether a round's policy got worse. The terminal and the report use the
same rules. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seralign.intervals import Interval
from seralign.tables import share


@dataclass(frozen=True, slots=True)
class Harm:
    """Harm done by a policy: ``by`` is ``heldout_accuracy`` or ``win_rate``, ``text`` completes a sentence."""

    by: str
    value: float
    text: str


def harm(heldout_accuracy: Interval | None, against_start: Interval | None) -> Harm | None:
    """The harm that a policy does, or None. It does harm if the whole interval of one of the shares is below one half.

    Args:
        heldout_accuracy: Share of held-out pairs with a margin above zero.
        against_start: Win rate against the starting policy.
    """
    for by, rate, text in (
        ("heldout_accuracy", heldout_accuracy, "its held-out accuracy is {}"),
        ("win_rate", against_start, "it wins {} against the starting policy"),
    ):
        if rate is not None and below_half(rate):
            return Harm(by, rate.mean, text.format(share(rate)))
    return None


def fell_behind(own: Interval, best: Interval, against_best: Interval | None) -> bool:
    """Whether a round ranks held-out pairs worse than the best round before it, i.e. its interval is below that one's.

    The responses of held-out pairs are not the policy's own. A policy that moves away from them can rank them a little
    worse while its own answers improve. So a round has not fallen behind if its answers beat those of the best round,
    i.e. the whole interval of the win rate is above one half.

    Args:
        own: Held-out accuracy of the round.
        best: Held-out accuracy of the best round before it.
        against_best: Win rate against that round; None without a scorer or judge.
    """
    better = against_best is not None and against_best.low is not None and against_best.low > 0.5
    return beyond(best, own) and not better


def beyond(higher: Interval, lower: Interval) -> bool:
    """Whether the interval of one figure is above that of another, without overlap. False without intervals."""
    return higher.low is not None and lower.high is not None and higher.low > lower.high


def below_half(rate: Interval) -> bool:
    """Whether the whole interval is below one half. False without an interval."""
    return rate.high is not None and rate.high < 0.5

"""Whether a round's policy got worse than one that learned nothing, or than an earlier round: the same rules, by
intervals, for the terminal and all of the report. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seralign.intervals import Interval
from seralign.tables import share


@dataclass(frozen=True, slots=True)
class Harm:
    """What a policy did harm to: ``by`` is ``heldout_accuracy`` or ``win_rate``, ``text`` what "it" does."""

    by: str
    value: float
    text: str


def harm(heldout_accuracy: Interval | None, against_start: Interval | None) -> Harm | None:
    """A policy does harm when the whole interval of a share lies below one half; None where no share's does.

    Args:
        heldout_accuracy: Share of held-out pairs whose margin is above zero.
        against_start: Its win rate against the starting policy.
    """
    for by, rate, text in (
        ("heldout_accuracy", heldout_accuracy, "its held-out accuracy is {}"),
        ("win_rate", against_start, "it wins {} against the starting policy"),
    ):
        if rate is not None and below_half(rate):
            return Harm(by, rate.mean, text.format(share(rate)))
    return None


def fell_behind(own: Interval, best: Interval, against_best: Interval | None) -> bool:
    """Whether a round ranks held-out pairs worse than the best round before it: its whole interval is below the whole
    interval of that one.

    Held-out pairs are others' answers: a policy that moves away from them ranks them a little worse while its own
    answers still get better. Where its answers beat that round's, the whole interval of the win rate above one half, it
    did not fall behind.

    Args:
        own: Its held-out accuracy.
        best: That of the best round before it.
        against_best: Its win rate against that round; None without a scorer.
    """
    better = against_best is not None and against_best.low is not None and against_best.low > 0.5
    return beyond(best, own) and not better


def beyond(higher: Interval, lower: Interval) -> bool:
    """Whether a figure is above another beyond their intervals: they do not overlap. Without intervals it is not known
    to be."""
    return higher.low is not None and lower.high is not None and higher.low > lower.high


def below_half(rate: Interval) -> bool:
    """Whether the whole interval is below one half; a share without an interval is not known to be."""
    return rate.high is not None and rate.high < 0.5

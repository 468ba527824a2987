"""Whether a round's policy got worse than one that learned nothing: one rule for the terminal and the report. Pure."""

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
        heldout_accuracy: Share of held-out pairs that it ranks right.
        against_start: Its win rate against the starting policy.
    """
    for by, rate, text in (
        ("heldout_accuracy", heldout_accuracy, "it ranks {} of the held-out pairs right"),
        ("win_rate", against_start, "it wins {} against the starting policy"),
    ):
        if rate is not None and below_half(rate):
            return Harm(by, rate.mean, text.format(share(rate.to_dict())))
    return None


def below_half(rate: Interval) -> bool:
    """Whether the whole interval is below one half; a share without an interval is not known to be."""
    return rate.high is not None and rate.high < 0.5

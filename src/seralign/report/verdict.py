"""Whether the run's result is also the best of its rounds, in a sentence."""

from __future__ import annotations

from seralign.harm import beyond
from seralign.intervals import Interval
from seralign.report.columns import HELDOUT_ACCURACY, kl, score
from seralign.report.contents import RunContents
from seralign.tables import percent


def verdict(run: RunContents) -> list[str]:
    """Where other rounds have better figures than the result, a sentence for each; none without a result.

    Score, wins against the starting policy and held-out accuracy are compared; each difference is said to be within or
    beyond the 95% intervals.
    """
    figures = run.figures
    result = figures.best
    if result is None or result.round is None:
        return []
    start = "" if figures.start is None else figures.start.name
    own = result.figures
    sentences = []
    for policy in figures.evaluated_rounds:
        theirs = policy.figures
        better = [
            f"{name} ({text(other.mean)} against {text(mine.mean)}, {_within(other, mine)})"
            for name, text, other, mine in (
                ("a higher score", score, theirs.score, own.score),
                (f"more wins against {start}", percent, theirs.win_rates.get(start), own.win_rates.get(start)),
                (f"a higher {HELDOUT_ACCURACY}", percent, theirs.heldout_accuracy, own.heldout_accuracy),
            )
            if other is not None and mine is not None and text(other.mean) != text(mine.mean) and other.mean > mine.mean
        ]
        if better and policy is not result:
            near = ""
            if theirs.kl is not None and own.kl is not None and theirs.kl.mean < own.kl.mean:
                near = f", at less distance from the reference ({kl(theirs.kl.mean)} against {kl(own.kl.mean)} nats)"
            sentences.append(f"{policy.name.capitalize()} has {_listed(better)}{near}.")
    if sentences:
        sentences.insert(0, f"The result is {result.name}, by stop.metric: {run.config['stop']['metric']}.")
    return sentences


def _within(theirs: Interval, own: Interval) -> str:
    if theirs.low is None or own.high is None:
        return "no intervals are known"
    return "beyond the intervals" if beyond(theirs, own) else "within the intervals"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]

"""Whether the run's result is also the best of its rounds, in a sentence."""

from __future__ import annotations

from typing import Any

from seralign.harm import beyond
from seralign.intervals import Interval
from seralign.report.contents import RunContents
from seralign.tables import number, percent


def verdict(run: RunContents) -> list[str]:
    """Where other rounds have better figures than the result, a sentence for each; none without a result.

    Score, wins against the starting policy and held-out accuracy are looked at; whether a difference is within the 95%
    intervals (they overlap) is said.
    """
    figures = run.figures
    policies = [policy for policy in figures["policies"] if policy["role"].startswith("round-")]
    result = next((one for one in policies if one["name"] == (figures["result"] or {}).get("policy")), None)
    if result is None:
        return []
    start = next((policy["name"] for policy in figures["policies"] if policy["role"] == "initial"), None)
    said = []
    for policy in policies:
        better = [
            f"{name} ({text(theirs['mean'])} against {text(own['mean'])}, {_within(theirs, own)})"
            for name, text, theirs, own in (
                ("a higher score", _score, policy["score"], result["score"]),
                (f"more wins against {start}", percent, policy["win_rates"].get(start), result["win_rates"].get(start)),
                ("a higher held-out accuracy", percent, policy["heldout_accuracy"], result["heldout_accuracy"]),
            )
            if theirs is not None
            and own is not None
            and text(theirs["mean"]) != text(own["mean"])
            and theirs["mean"] > own["mean"]
        ]
        if better and policy is not result:
            near = ""
            if policy["kl"] and result["kl"] and policy["kl"]["mean"] < result["kl"]["mean"]:
                near = (
                    f", at less distance from the reference ({number(policy['kl']['mean'], 2)} against "
                    f"{number(result['kl']['mean'], 2)} nats)"
                )
            said.append(f"{policy['name'].capitalize()} has {_listed(better)}{near}.")
    if said:
        said.insert(0, f"The result is {result['name']}, by stop.metric: {run.config['stop']['metric']}.")
    return said


def _score(value: float) -> str:
    return number(value, 3)


def _within(theirs: dict[str, Any], own: dict[str, Any]) -> str:
    if theirs["low"] is None or own["high"] is None:
        return "no intervals are known"
    return "beyond the intervals" if beyond(Interval(**theirs), Interval(**own)) else "within the intervals"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]

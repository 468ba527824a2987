"""The charts of the policies: what each round gained, at what distance, and how its answers changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from seralign.report.charts import (
    POINT,
    Chart,
    Key,
    Over,
    Panel,
    axis,
    chart,
    layer,
    level,
    names,
    share_format,
    spread,
)
from seralign.report.contents import RunContents
from seralign.report.format import ACCURACY, ALONE, called
from seralign.report.summary import accuracy, is_own_reference
from seralign.tables import ABSENT, Table, interval, number, percent, without_empty

_NONE = "No policy has been evaluated yet."
NO_ANSWERS = "No answers were sampled: evaluation.prompts is 0, or nothing is held out."


def policy_charts(runs: Sequence[RunContents], over: Over) -> list[Chart]:
    """The charts of the evaluated policies of one run, or of several over each other."""
    return [_path(over, runs), _wins(over, runs), _responses(over, runs)]


def _path(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "Reward against distance"
    values, rows = [], []
    for run in runs:
        for place, policy in enumerate(run.figures["policies"]):
            kl, margin = policy["kl"], _alone(policy["heldout_margin"])
            cells = (interval(kl, 2), interval(policy["score"], 3), number(policy["heldout_margin"], 2))
            rows.append((over.label(run.name, called(policy)), *cells))
            for kind, reward in (("score", policy["score"]), ("margin", margin)):
                if kl is not None and reward is not None:
                    found = _row(run, policy, reward) | {"kl": kl["mean"], "kl_low": kl["low"], "kl_high": kl["high"]}
                    found |= {"at": place, "kind": kind}
                    found |= {"series": "baseline" if policy["role"] == "baseline" else "rounds"}
                    values.append(found)
    table = Table(
        "Distance and reward", ("policy", "KL (nats an answer)", "score", "held-out margin (nats)"), tuple(rows)
    )
    if not values:
        return Chart("path", title, _no_path(runs), table=table)
    keys = {"rounds": Key("the rounds, in order", "kept", "line")}
    if any(value["series"] == "baseline" for value in values):
        keys["baseline"] = Key(_alone_name(runs), "made", "dot")
    shown, legend = over.series(keys)
    del shown["strokeDash"]
    panels = []
    for kind, name in (("score", "Mean score"), ("margin", "Margin on held-out pairs (nats)")):
        if some := [value for value in values if value["kind"] == kind]:
            panels.append(Panel(name, _steps(over, some, shown)))
    reading = (
        "Each point is a policy: how far it went from the reference, and what it reached. A path that goes right and "
        "no longer up pays for nothing; a margin that grows while the score does not is the policy pleasing itself. "
        "Thin lines are 95% intervals."
    )
    return Chart("path", title, reading, tuple(panels), tuple(legend), table, half=len(panels) == 1)


def _no_path(runs: Sequence[RunContents]) -> str:
    """Why no policy has both a distance and a reward."""
    policies = [policy for run in runs for policy in run.figures["policies"]]
    if not policies:
        return _NONE
    if not any(policy["n"] for policy in policies):
        return f"No distance is known. {NO_ANSWERS}"
    if all(policy["kl"] is None for policy in policies):
        return (
            "No distance is known: the log-ratios of answers estimate KL only where they were sampled at "
            "evaluation.temperature 1 and top_p 1, from all of the policy's distribution."
        )
    return "No reward to set against the distance: no scores (evaluation.scorer) and no margins on held-out pairs."


def _steps(over: Over, values: list[dict[str, Any]], shown: dict[str, Any]) -> dict[str, Any]:
    """Policies by distance and reward, with their intervals; the rounds joined in their order."""
    across = axis("kl", "KL to the reference (nats an answer)", _extent(values, "kl", "kl_low", "kl_high"))
    up = axis("mean", "", _extent(values, "mean", "low", "high"))
    tip = over.tips(policy="policy", kl=("KL", ".2f"), mean=("reward", ".3f"))
    place = {"x": across, "y": up} | shown
    named = {"x": across, "y": up, "text": {"field": "name"}}
    thin = {"strokeWidth": 1.5, "opacity": 0.5}
    below = "datum.series != 'rounds' || datum.name == 'start'"
    sideways = place | {"x": across | {"field": "kl_low"}, "x2": {"field": "kl_high"}}
    layers = [
        layer("rule", thin, place | {"y": up | {"field": "low"}, "y2": {"field": "high"}}, "isValid(datum.low)"),
        layer("rule", thin, sideways, "isValid(datum.kl_low)"),
        layer("line", thin, place | {"order": {"field": "at"}}, "datum.series == 'rounds'"),
        layer("point", POINT, place | {"tooltip": tip}),
        # The path goes up and to the right: names of the rounds are above it, on the left. The start's would be among
        # the axis' labels there, and the baseline's among those of round 1.
        layer("text", {"dx": -7, "dy": -8, "align": "right"}, named, f"!({below})"),
        layer("text", {"dx": 7, "dy": 12, "align": "left"}, named, below),
    ]
    return chart(values, layers, 240)


def _wins(over: Over, runs: Sequence[RunContents]) -> Chart:
    ranked = any(policy["heldout_accuracy"] is not None for run in runs for policy in run.figures["policies"])
    title = "Wins, score and accuracy" if ranked else "Wins and score"
    measures: dict[str, list[dict[str, Any]]] = {}
    rows = []
    for run in runs:
        policies = run.figures["policies"]
        known = {policy["name"]: called(policy) for policy in policies}
        rivals = [policy["name"] for policy in policies if policy["role"] in ("initial", "baseline")]
        for policy in policies:
            figures = {f"Wins against {known[name]}": policy["win_rates"].get(name) for name in rivals}
            figures |= {"Score": policy["score"], "Held-out accuracy": _ranked(policy)}
            for name, value in figures.items():
                if value is not None:
                    measures.setdefault(name, []).append(_row(run, policy, value))
            wins = ", ".join(
                f"{interval(value, 3)} against {known.get(name, name)}" for name, value in policy["win_rates"].items()
            )
            cells = (wins or ABSENT, interval(policy["score"], 3), accuracy(policy))
            rows.append((over.label(run.name, called(policy)), *cells))
    table = without_empty(
        Table(f"{title} of the policies", ("policy", "wins", "score", "held-out accuracy"), tuple(rows))
    )
    if not measures:
        missing = "There is nothing to compare: no scores (evaluation.scorer) and no held-out pairs."
        return Chart("wins", title, missing if rows else _NONE, table=table)
    panels = [
        Panel(name, _dots(over, values, *((None, _score) if name == "Score" else (0.5, percent))))
        for name, values in sorted(measures.items(), key=lambda item: not item[0].startswith("Wins"))
    ]
    reading = (
        "Points with 95% intervals. The thin line is a half: neither better nor worse. Wins compare answers to the "
        f"same prompts by their score.{f' Held-out {ACCURACY}.' if ranked else ''}"
    )
    if any(policy["role"] == "baseline" for run in runs for policy in run.figures["policies"]):
        reading += f" “alone” is {_alone_name(runs)}."
    if not any(policy["score"] for run in runs for policy in run.figures["policies"]):
        reading = (
            f"Held-out {ACCURACY}. Points with 95% intervals; the thin line is a half. Without a scorer there are no "
            "win rates."
        )
    return Chart("wins", title, reading, tuple(panels), tuple(over.legend("dot") if over.several else ()), table)


def _responses(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "What the policies write"
    measures = {
        "length": ("Length (tokens)", _tokens),
        "distinct_2": ("Different bigrams (distinct-2)", _score),
        "repetition": ("Answers that repeat themselves", percent),
        "unfinished": ("Answers cut at the limit", percent),
    }
    policies = [(run, policy) for run in runs for policy in run.figures["policies"]]
    if not policies:
        return Chart("responses", title, _NONE)
    panels = []
    for key, (name, said) in measures.items():
        means = [(run, policy, _alone(policy[key])) for run, policy in policies]
        values = [_row(run, policy, mean) for run, policy, mean in means if mean is not None]
        if values:
            panels.append(Panel(name, _dots(over, values, None, said, zero=True)))
    rows = []
    for run, policy in policies:
        cells = (number(policy["length"], 1), number(policy["distinct_2"], 3), percent(policy["repetition"]))
        label = over.label(run.name, called(policy))
        rows.append((label, "held-out prompts", *cells, percent(policy["unfinished"])))
    for run in runs:
        for entry in run.figures["rounds"]:
            if sample := entry["sample"]:
                label = over.label(run.name, f"round {entry['round']}, sampled")
                cells = (number(sample["length"], 1), number(sample.get("distinct_2"), 3), ABSENT)
                rows.append((label, "training prompts", *cells, percent(sample["unfinished"])))
    reading = "Answers to the held-out prompts. Length that grows while the rest stays the same is gained without work."
    counts = {max(policy["n"] for policy in run.figures["policies"]) for run in runs if run.figures["policies"]}
    if len(counts - {0}) > 1:
        reading += " The runs answered other numbers of prompts: their distinct-2, which falls with it, do not compare."
    if not panels:
        reading = NO_ANSWERS
    columns = ("answers of", "to", "length", "distinct-2", "repeating", "unfinished")
    table = Table("Generated responses", columns, tuple(rows))
    legend = over.legend("dot") if over.several else ()
    return Chart("responses", title, reading, tuple(panels), tuple(legend), table)


def _dots(
    over: Over,
    values: list[dict[str, Any]],
    at: float | None,
    said: Callable[[float | None], str],
    *,
    zero: bool = False,
) -> dict[str, Any]:
    """Means by policy with their intervals; ``at``: where a thin line crosses; ``said``: how the tables write one."""
    low, high = _range(values, at, zero)
    if said is percent and zero and high > 0.05 and not any(value["mean"] for value in values):
        high = 0.05
    values = [value | {f"said_{name}": said(value[name]) for name in ("mean", "low", "high")} for value in values]
    shown, _ = over.series({"": Key("", "kept", "line")})
    y = axis("mean", "", (low, high), share_format(low, high) if said is percent else None)
    order = sorted(dict.fromkeys(value["name"] for value in values), key=lambda name: name == "alone")
    place = shown | {"x": names("name", order)}
    if over.several:
        place["xOffset"] = {"field": "run", "scale": {"domain": list(over.names)}}
    tip = over.tips(policy="policy", said_mean="value")
    if any(value["low"] is not None for value in values):
        tip += over.tips(said_low="from", said_high="to")[over.several :]
    spans = place | {"y": y | {"field": "low"}, "y2": {"field": "high"}}
    layers = [
        layer("rule", {"strokeWidth": 1.5, "opacity": 0.6}, spans, "isValid(datum.low)"),
        layer("point", POINT, place | {"y": y, "tooltip": tip}),
    ]
    return chart(values, layers if at is None else [level(at), *layers], 170)


def _range(values: list[dict[str, Any]], at: float | None, zero: bool) -> tuple[float, float]:
    found = [value[name] for value in values for name in ("mean", "low", "high") if value[name] is not None]
    low, high = spread([*found, *([0.0] if zero else []), *([] if at is None else [at - 0.02, at + 0.02])])
    return (0.0 if zero else low), high


def _score(value: float | None) -> str:
    return number(value, 3)


def _tokens(value: float | None) -> str:
    return number(value, 1)


def _extent(values: list[dict[str, Any]], *fields: str) -> tuple[float, float]:
    return spread([value[name] for value in values for name in fields if value[name] is not None])


def _row(run: RunContents, policy: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    figures = {name: value[name] for name in ("mean", "low", "high")}
    return figures | {"name": _short(policy), "policy": called(policy), "run": run.name, "series": ""}


def _short(policy: dict[str, Any]) -> str:
    """``start``, ``1``, ``2``, ..., and ``alone`` for the objective alone: what fits below a small chart."""
    role: str = policy["role"]
    return {"initial": "start", "baseline": "alone"}.get(role) or role.removeprefix("round-")


def _alone_name(runs: Sequence[RunContents]) -> str:
    """What the baselines of these runs are called, all of them together."""
    found = {called(policy) for run in runs for policy in run.figures["policies"] if policy["role"] == "baseline"}
    return found.pop() if len(found) == 1 else f"the objective {ALONE}"


def _ranked(policy: dict[str, Any]) -> dict[str, Any] | None:
    """Held-out accuracy; that of a policy that is its own reference is one half by definition, without an interval."""
    return _alone(0.5) if is_own_reference(policy) else policy["heldout_accuracy"]


def _alone(value: float | None) -> dict[str, Any] | None:
    return None if value is None else {"mean": value, "low": None, "high": None}

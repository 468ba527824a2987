"""The charts of the policies: what each round gained, at which KL, and how its answers changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seralign.intervals import Interval
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
from seralign.report.columns import (
    ACCURACY,
    ACCURACY_HELDOUT,
    DISTINCT,
    HELDOUT_ACCURACY,
    KL,
    LENGTH,
    MARGIN_HELDOUT,
    POLICY,
    REPETITION,
    SCORE,
    UNFINISHED,
    all_wins,
    length,
)
from seralign.report.columns import score as decimals
from seralign.report.contents import RunContents
from seralign.report.record import ALONE, EvaluatedPolicy
from seralign.runs.figures import EvaluateFigures, SampleFigures
from seralign.runs.layout import BASELINE
from seralign.tables import Column, Table, percent, table, without_empty

_NONE = "No policy has been evaluated yet."
NO_ANSWERS = "No answers were sampled: evaluation.prompts is 0, or nothing is held out."


def policy_charts(runs: Sequence[RunContents], over: Over) -> list[Chart]:
    """The charts of the evaluated policies of one run, or of several over each other."""
    return [_path(over, runs), _wins(over, runs), _responses(over, runs)]


def _path(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "Reward against distance"
    values = []
    for run in runs:
        for place, policy in enumerate(run.figures.policies):
            distance, score = policy.figures.kl, policy.figures.score
            for kind, reward in (("score", score), ("margin", _alone(policy.figures.heldout_margin))):
                if distance is not None and reward is not None:
                    found = _row(run, policy, reward)
                    found |= {"kl": distance.mean, "kl_low": distance.low, "kl_high": distance.high}
                    found |= {"at": place, "kind": kind}
                    found |= {"series": "baseline" if policy.role == BASELINE else "rounds"}
                    values.append(found)
    figures = _table(over, runs, "Distance and reward", (KL, SCORE, MARGIN_HELDOUT))
    if not values:
        return Chart("path", title, _no_path(runs), table=figures)
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
        "Each point is a policy: its KL to the reference, and its mean score or margin. If the path goes right but not "
        "up, more KL brings no gain. If the margin grows and the score does not, the policy only optimises its own "
        "reward. Thin lines are 95% intervals."
    )
    return Chart("path", title, reading, tuple(panels), tuple(legend), figures, half=len(panels) == 1)


def _no_path(runs: Sequence[RunContents]) -> str:
    """Why no policy has both a KL and a reward."""
    policies = _policies(runs)
    if not policies:
        return _NONE
    if not any(policy.figures.n for policy in policies):
        return f"No distance is known. {NO_ANSWERS}"
    if all(policy.figures.kl is None for policy in policies):
        return (
            "No distance is known: the log-ratios of answers estimate KL only where they were sampled at "
            "evaluation.temperature 1 and top_p 1, from all of the policy's distribution."
        )
    return "No reward is known: no scores (evaluation.scorer) and no margins on held-out pairs."


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
    policies = _policies(runs)
    ranked = any(policy.figures.heldout_accuracy is not None for policy in policies)
    title = "Wins, score and accuracy" if ranked else "Wins and score"
    measures: dict[str, list[dict[str, Any]]] = {}
    titles: dict[str, str] = {}
    for run in runs:
        titles |= {policy.name: policy.title for policy in run.figures.policies}
        for policy in run.figures.policies:
            rates = policy.figures.win_rates
            figures = {f"Wins against {rival.title}": rates.get(rival.name) for rival in run.figures.rivals}
            figures |= {SCORE.title.capitalize(): policy.figures.score, HELDOUT_ACCURACY.capitalize(): _ranked(policy)}
            for name, value in figures.items():
                if value is not None:
                    measures.setdefault(name, []).append(_row(run, policy, value))
    wins = without_empty(_table(over, runs, f"{title} of the policies", (all_wins(titles), SCORE, ACCURACY_HELDOUT)))
    if not measures:
        missing = "There is nothing to compare: no scores (evaluation.scorer) and no held-out pairs."
        return Chart("wins", title, missing if policies else _NONE, table=wins)
    panels = [
        Panel(name, _dots(over, values, *((None, decimals) if name == "Score" else (0.5, percent))))
        for name, values in sorted(measures.items(), key=lambda item: not item[0].startswith("Wins"))
    ]
    reading = (
        "Points with 95% intervals. The thin line is a half: neither better nor worse. Wins compare answers to the "
        f"same prompts by their score.{f' Held-out {ACCURACY}.' if ranked else ''}"
    )
    if any(policy.role == BASELINE for policy in policies):
        reading += f" “alone” is {_alone_name(runs)}."
    if not any(policy.figures.score for policy in policies):
        reading = (
            f"Held-out {ACCURACY}. Points with 95% intervals; the thin line is a half. Without a scorer there are no "
            "win rates."
        )
    return Chart("wins", title, reading, tuple(panels), tuple(over.legend("dot") if over.several else ()), wins)


def _responses(over: Over, runs: Sequence[RunContents]) -> Chart:
    title = "What the policies write"
    measures: dict[str, tuple[Callable[[EvaluateFigures], float | None], Callable[[float | None], str]]] = {
        "Length (tokens)": (lambda figures: figures.length, length),
        "Different bigrams (distinct-2)": (lambda figures: figures.distinct_2, decimals),
        "Likeness of the answers (self-BLEU)": (lambda figures: figures.self_bleu, decimals),
        "Answers that repeat themselves": (lambda figures: figures.repetition, percent),
        "Answers cut at the limit": (lambda figures: figures.unfinished, percent),
    }
    policies = [(run, policy) for run in runs for policy in run.figures.policies]
    if not policies:
        return Chart("responses", title, _NONE)
    panels = []
    for name, (read, shown) in measures.items():
        means = [(run, policy, _alone(read(policy.figures))) for run, policy in policies]
        values = [_row(run, policy, mean) for run, policy, mean in means if mean is not None]
        if values:
            panels.append(Panel(name, _dots(over, values, None, shown, zero=True)))
    answers = [
        _Answers(over.label(run.name, policy.title), "held-out prompts", policy.figures) for run, policy in policies
    ]
    answers += [
        _Answers(over.label(run.name, f"{entry.name}, sampled"), "training prompts", entry.sample)
        for run in runs
        for entry in run.figures.rounds
        if entry.sample is not None
    ]
    reading = "Answers to the held-out prompts. If only the length grows, the policy writes more, but not better."
    counts = {max(policy.figures.n for policy in run.figures.policies) for run in runs if run.figures.policies}
    if len(counts - {0}) > 1:
        reading += " The runs answered different numbers of prompts; distinct-2 falls with it and cannot be compared."
    if not panels:
        reading = NO_ANSWERS
    legend = over.legend("dot") if over.several else ()
    figures = table("Generated responses", _ANSWER_COLUMNS, answers)
    return Chart("responses", title, reading, tuple(panels), tuple(legend), figures)


@dataclass(frozen=True)
class _Answers:
    """Answers that a policy gave: what they are called, to which prompts, and their figures."""

    title: str
    prompts: str
    figures: EvaluateFigures | SampleFigures

    @property
    def self_bleu(self) -> float | None:
        return self.figures.self_bleu if isinstance(self.figures, EvaluateFigures) else None

    @property
    def repetition(self) -> float | None:
        return self.figures.repetition if isinstance(self.figures, EvaluateFigures) else None


_ANSWER_COLUMNS = (
    Column[_Answers]("answers of", lambda one: one.title),
    Column[_Answers]("to", lambda one: one.prompts),
    Column[_Answers](LENGTH.title, lambda one: length(one.figures.length), LENGTH.unit),
    Column[_Answers](DISTINCT.title, lambda one: decimals(one.figures.distinct_2)),
    Column[_Answers]("self-BLEU", lambda one: decimals(one.self_bleu)),
    Column[_Answers](REPETITION.title, lambda one: percent(one.repetition)),
    Column[_Answers](UNFINISHED.title, lambda one: percent(one.figures.unfinished)),
)


def _policies(runs: Sequence[RunContents]) -> list[EvaluatedPolicy]:
    return [policy for run in runs for policy in run.figures.policies]


def _table(over: Over, runs: Sequence[RunContents], caption: str, columns: Sequence[Column[EvaluatedPolicy]]) -> Table:
    """A row for each policy of each run."""
    found = table(caption, (POLICY, *columns), _policies(runs))
    labels = [over.label(run.name, policy.title) for run in runs for policy in run.figures.policies]
    return replace(found, rows=tuple((label, *row[1:]) for label, row in zip(labels, found.rows, strict=True)))


def _dots(
    over: Over,
    values: list[dict[str, Any]],
    at: float | None,
    shown: Callable[[float | None], str],
    *,
    zero: bool = False,
) -> dict[str, Any]:
    """Means by policy with their intervals; ``at``: where a thin line is; ``shown``: how the tables format one."""
    low, high = _range(values, at, zero)
    if shown is percent and zero and high > 0.05 and not any(value["mean"] for value in values):
        high = 0.05
    values = [value | {f"said_{name}": shown(value[name]) for name in ("mean", "low", "high")} for value in values]
    style, _ = over.series({"": Key("", "kept", "line")})
    y = axis("mean", "", (low, high), share_format(low, high) if shown is percent else None)
    order = sorted(dict.fromkeys(value["name"] for value in values), key=lambda name: name == "alone")
    place = style | {"x": names("name", order)}
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


def _extent(values: list[dict[str, Any]], *fields: str) -> tuple[float, float]:
    return spread([value[name] for value in values for name in fields if value[name] is not None])


def _row(run: RunContents, policy: EvaluatedPolicy, value: Interval) -> dict[str, Any]:
    figures = {"mean": value.mean, "low": value.low, "high": value.high}
    return figures | {"name": policy.short, "policy": policy.title, "run": run.name, "series": ""}


def _alone_name(runs: Sequence[RunContents]) -> str:
    """What the baselines of these runs are called, all of them together."""
    found = {policy.title for policy in _policies(runs) if policy.role == BASELINE}
    return found.pop() if len(found) == 1 else f"the objective {ALONE}"


def _ranked(policy: EvaluatedPolicy) -> Interval | None:
    """Held-out accuracy; that of a policy that is its own reference is one half by definition, without an interval."""
    return _alone(0.5) if policy.is_own_reference else policy.figures.heldout_accuracy


def _alone(value: float | None) -> Interval | None:
    return None if value is None else Interval(value, None, None, 1)

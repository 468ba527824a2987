"""The figures of an evaluation as tables, for the terminal and for its page."""

from __future__ import annotations

from collections.abc import Iterator

from seralign.intervals import Interval
from seralign.runs.evaluated import EvaluationFigures, JudgesFigures, PairFigures, PolicyFigures, RatingFigures
from seralign.tables import (
    ABSENT,
    Column,
    Table,
    interval,
    number,
    percent,
    quantity,
    share,
    signed,
    table,
    without_empty,
)

_PAIRS: tuple[Column[PairFigures], ...] = (
    Column("policy", lambda one: one.policy),
    Column("against", lambda one: one.rival),
    Column("win rate", lambda one: share(one.win_rate)),
    Column("length-controlled", lambda one: share(one.length_controlled)),
    Column("ties", lambda one: share(one.tie_rate)),
    Column("position bias", lambda one: points(one.position_bias)),
    Column("self-agreement", lambda one: share(one.self_agreement)),
    Column("prompts", lambda one: f"{one.comparisons:,}"),
    Column("equal", lambda one: _count(one.equal)),
    Column("unreadable", lambda one: _count(one.unreadable)),
    Column("failed", lambda one: _count(one.failed)),
)
_POLICIES: tuple[Column[PolicyFigures], ...] = (
    Column("policy", lambda one: one.name),
    Column("outputs from", lambda one: one.source),
    Column("outputs", lambda one: f"{one.answered:,}"),
    Column("no output", lambda one: _count(one.unanswered)),
    Column("empty", lambda one: _count(one.empty)),
    Column("unfinished", lambda one: percent(one.unfinished)),
    Column("length", lambda one: interval(one.characters, 0), "characters"),
    Column("tokens", lambda one: interval(one.tokens, 0)),
    Column("distinct-2", lambda one: number(one.distinct_2, 3)),
    Column("self-BLEU", lambda one: number(one.self_bleu, 3)),
)
_RATINGS: tuple[Column[RatingFigures], ...] = (
    Column("policy", lambda one: one.policy),
    Column("strength", lambda one: _ends(one.strength), "log-odds"),
    Column("win rate against the others", lambda one: share(one.win_rate)),
)


_JUDGES: tuple[Column[JudgesFigures], ...] = (
    Column("judges", lambda one: " and ".join(one.judges)),
    Column("comparisons", lambda one: f"{one.comparisons:,}"),
    Column("same winner", lambda one: percent(one.share)),
    Column("Cohen's κ", lambda one: number(one.kappa, 2)),
)


def headline(figures: EvaluationFigures) -> str:
    """The evaluation in one sentence."""
    against = "all compared with all" if figures.baseline is None else f"compared with {figures.baseline}"
    prompts = quantity(figures.prompts, "prompt")
    return f"{len(figures.policies)} policies on {prompts}, {against}, judged by {figures.judge}."


def notes(figures: EvaluationFigures) -> list[str]:
    """What the figures mean, and what the judge took."""
    said = ["A tie counts one half of a win. All intervals are 95%, over prompts."]
    if any(one.length_controlled is not None for one in figures.pairs):
        said.append("Length-controlled: the win rate if all answers were equally long, in characters.")
    bootstrapped = [one.length_controlled for one in figures.pairs] + [one.strength for one in figures.ratings]
    if any(one is not None and one.low is None for one in bootstrapped):
        said.append(
            "Length-controlled win rates and ratings without an interval: there are fewer than 10 prompts, or fewer "
            "than 2 wins or 2 losses, which is too few for one. Read the interval of the win rate instead."
        )
    alone = [one.policy for one in figures.ratings if one.strength.low is None]
    if 0 < len(alone) < len(figures.ratings):
        said.append(
            f"The strengths of the other policies are relative to {' and '.join(alone)} too: their intervals leave out "
            "how uncertain that strength is, and are too narrow."
        )
    if any(one.position_bias is not None for one in figures.pairs):
        said.append(
            "Position bias: percentage points that the answer shown first gains over one half; asking both orders "
            "takes it out of the win rate. Self-agreement: share of comparisons with the same winner in both orders."
        )
    if figures.panel is not None:
        winners, probabilities = figures.panel.alpha, figures.panel.alpha_probabilities
        said.append(
            f"Krippendorff's α of the panel: {number(winners, 2)} of the winners, {number(probabilities, 2)} of the "
            "probabilities. 1 is full agreement, and 0 is chance."
        )
    if figures.cost is not None:
        cost = figures.cost
        said.append(
            f"The judge answered {quantity(cost.requests, 'request')}: {cost.prompt_tokens:,} tokens of questions and "
            f"{cost.completion_tokens:,} of answers"
            + ("" if cost.money is None else f", which cost {cost.money:,.4g}")
            + f". A prompt took {interval(cost.tokens_per_prompt, 1)} tokens"
            + ("" if cost.money_per_prompt is None else f", and {_money(cost.money_per_prompt)} in money")
            + (f"; {quantity(cost.unreported, 'request')} without a report of tokens" if cost.unreported else "")
            + "."
        )
    return said


def tables(figures: EvaluationFigures) -> Iterator[tuple[int, Table]]:
    """The tables of an evaluation, each with the number of columns that name a row."""
    yield 2, without_empty(table("Comparisons: 95% intervals over prompts", _PAIRS, figures.pairs))
    if figures.ratings:
        yield 1, table("Ratings by Bradley and Terry's model", _RATINGS, figures.ratings)
        yield 1, matrix(figures)
    if figures.panel is not None:
        yield 1, table("Agreement of the panel's judges", _JUDGES, figures.panel.pairs)
    yield 2, without_empty(table("Outputs", _POLICIES, figures.policies))


def matrix(figures: EvaluationFigures) -> Table:
    """Win rates of each policy (rows) against each other (columns)."""
    rates = {(one.policy, one.rival): one.win_rate for one in figures.pairs}
    names = [one.policy for one in figures.ratings]

    def cell(own: str, other: str) -> str:
        if (own, other) in rates:
            return share(rates[own, other])
        turned = rates.get((other, own))
        return ABSENT if turned is None else share(_turned(turned))

    rows = tuple((own, *(cell(own, other) for other in names)) for own in names)
    return Table("Win rate of each policy (rows) against each other (columns)", ("policy", *names), rows)


def _turned(rate: Interval) -> Interval:
    low, high = (None if end is None else 1 - end for end in (rate.high, rate.low))
    return Interval(1 - rate.mean, low, high, rate.n)


def points(value: Interval | None) -> str:
    """A difference of shares in percentage points, with its interval."""
    if value is None:
        return ABSENT
    text = signed(100 * value.mean, 1)
    if value.low is None or value.high is None:
        return text
    return f"{text} ({signed(100 * value.low, 1)} to {signed(100 * value.high, 1)})"


def _money(value: Interval) -> str:
    text = f"{value.mean:,.4g}"
    return text if value.low is None or value.high is None else f"{text} ({value.low:,.4g} to {value.high:,.4g})"


def _ends(value: Interval) -> str:
    if value.low is None or value.high is None:
        return number(value.mean, 2)
    return f"{signed(value.mean, 2)} ({signed(value.low, 2)} to {signed(value.high, 2)})"


def _count(count: int) -> str:
    return f"{count:,}" if count else ABSENT

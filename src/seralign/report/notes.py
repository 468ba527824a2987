"""Notes on figures that a run does not have, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seralign.objectives import OBJECTIVES
from seralign.report.record import RunFigures
from seralign.tables import counted, number, quantity

# Beginning of the note on a run without a result, which the page shows separately.
UNFINISHED = "The run has not finished"
# With fewer pairs or answers, a share of one half has an interval of 40 points or more.
FEW = 20


def run_notes(figures: RunFigures, config: dict[str, Any]) -> tuple[str, ...]:
    """The notes of a run; ``config`` is its configuration as in ``run.json``."""
    return tuple(_notes(figures, config))


def last_stage(figures: RunFigures) -> str:
    """The last finished stage of an unfinished run, in words."""
    return f"the last finished stage is {figures.stages[-1].name}" if figures.stages else "no stage has finished"


def _notes(figures: RunFigures, config: dict[str, Any]) -> Iterator[str]:
    policies = figures.policies
    if not figures.finished:
        yield f"{UNFINISHED}: {last_stage(figures)}. The same command resumes it."
    if not any(entry.train for entry in figures.rounds):
        yield "No round has been trained yet."
    elif figures.supervised:
        yield "The objective is sft: no pairs are ranked, so there are no margins and no rewards."
    elif figures.generates_all:
        yield "All pairs were made by the rounds: no offline pairs were selected or trained on."
    elif figures.rewarded:
        yield "The policy was trained on a reward of its own responses, and on no pairs."
    elif config["rounds"] == 1:
        yield "One round: no pairs were reviewed, selected or generated."
    elif config["bootstrap"] is None:
        yield "No generated pairs: bootstrap is null."
    if (shown := _joined(figures, config)) is not None:
        yield f"Every training also imitated the {shown:,} demonstrations."
    for entry in figures.rounds:
        if entry.select is not None and not entry.select.trusted:
            yield (
                f"Round {entry.index} used no margins, because the held-out accuracy before it was not surely above "
                "scoring.min_accuracy: it trained on all offline pairs, and on no generated ones."
            )
        elif entry.bootstrap is not None and not entry.bootstrap.pairs:
            yield f"Round {entry.index} made no pairs: {counted(entry.bootstrap.left_out) or 'no prompts'}."
        elif entry.bootstrap is not None and entry.bootstrap.agreement is not None:
            yield (
                f"Round {entry.index}: the two rankings of the sampled responses agree at "
                f"{number(entry.bootstrap.agreement, 2)} (bootstrap.agreement; 0.5 is chance), which is the label of "
                "its generated pairs."
            )
    if policies and not any(policy.figures.n for policy in policies):
        yield "No answers were sampled: evaluation.prompts is 0, or nothing is held out."
    elif policies and not any(policy.figures.score for policy in policies):
        yield "No scorer: there are no scores and no win rates (evaluation.scorer)."
    yield from _other_bases(figures, config)
    yield from _few(figures)
    if figures.data is not None and not figures.data.heldout:
        if figures.supervised:
            yield "Nothing is held out: the loss on texts that it was not trained on is not known."
        elif not figures.rewarded:
            yield "No held-out pairs: how the policies rank pairs that they were not trained on is not known."


def _joined(figures: RunFigures, config: dict[str, Any]) -> int | None:
    """The number of demonstrations that are in every training beside the pairs; None without such an objective."""
    given = config["objective"]
    names = [term["name"] for term in (given if isinstance(given, list) else [given])]
    kinds = [kind for kind in map(OBJECTIVES.get, names) if kind is not None]
    both = len(kinds) == len(names) and all({"pair", "demonstration"} <= kind.forms for kind in kinds)
    if not both or figures.data is None or all(kind.reads == "first" for kind in kinds):
        return None
    source = figures.data.sources.get("demonstrations")
    return None if source is None else source.kept


def _other_bases(figures: RunFigures, config: dict[str, Any]) -> Iterator[str]:
    """A note if an adapter is used on a model that it was not trained on."""
    if figures.model is not None and figures.model.other_base is not None:
        yield on_other_base("policy", figures.model.other_base)
    reference = figures.reference
    has_own = config["reference"]["model"] is not None  # else it is the policy's, which has its own note
    if has_own and reference is not None and reference.other_base is not None:
        yield on_other_base("reference", reference.other_base)


def on_other_base(section: str, base: str) -> str:
    """The note on an adapter whose base is another model; ``section`` is the section of the configuration."""
    return (
        f"{section}.adapter was trained on {base}, and {section}.model is another model or another name of it. If the "
        f"weights differ, the adapter does not have the effect that it was trained for; give {base} as {section}.model."
    )


def _few(figures: RunFigures) -> Iterator[str]:
    """A note if held-out figures are from very few pairs or answers."""
    heldout = 0 if figures.data is None else figures.data.heldout
    answers = max((policy.figures.n for policy in figures.policies), default=0)
    what = "pair" if figures.data is None or "pairs" in figures.data.sources else "demonstration"
    found = [
        (heldout, f"{what}", "held out", f"hold out more {what}s (data.heldout_fraction, data.heldout)"),
        (answers, "answer", "to held-out prompts", "have more prompts answered (evaluation.prompts)"),
    ]
    few = [each for each in found if 0 < each[0] < FEW]
    if few:
        counts = " and ".join(f"{quantity(count, noun)} {whence}" for count, noun, whence, _ in few)
        advice = ", and ".join(cure for *_, cure in few)
        yield f"Only {counts}: held-out figures of so few are mostly chance. {advice[0].upper()}{advice[1:]}."

"""Answers of the policies of a run to the same held-out prompts, packed for the page.

The tables are those of the evaluations (``samples.parquet``). The block is JSON, gzip in base64; what it holds is
limited in bytes: texts are cut and, if necessary, prompts are left out. The header has the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from seralign.report.packing import LEVELS, block, cut_text, fewer
from seralign.report.record import RunFigures
from seralign.report.template_ends import template_ends
from seralign.runs import Run
from seralign.runs.files import read_table
from seralign.runs.layout import BASELINE, INITIAL, SAMPLES, VERDICTS, evaluation

# Most prompts that are read, evenly over those of the evaluation.
PROMPTS = 500


@dataclass(frozen=True)
class Judged:
    """The judge's verdict on an answer against that of another policy.

    Args:
        rival: Which of the policies of ``Answers``.
        first_better: Probability that the answer is better than the rival's; None without a verdict.
        orders: The same where the answer was shown first, and where it was shown second; None if the judge was not
            asked in both orders.
        text: Explanation by the judge, or why there is no verdict.
    """

    rival: int
    first_better: float | None
    orders: tuple[float, float] | None
    text: str | None


@dataclass(frozen=True)
class Answer:
    """A policy's answer: its text, tokens, whether it ended by itself, its score where there is a scorer, and the
    verdicts on it where there is a judge."""

    text: str
    length: int
    finished: bool
    score: float | None
    verdicts: tuple[Judged, ...] = ()


@dataclass(frozen=True)
class Answers:
    """Answers of several policies to the same prompts.

    Args:
        policies: Names for people, in the order of the run: starting policy, rounds, baseline.
        result: Which of them is the run's result; None before there is one.
        total: Prompts of the evaluation.
        prompts: Those of them that are here.
        answers: For each prompt one of each policy; None where a policy was not asked it.
        scored: Whether there are scores.
    """

    policies: tuple[str, ...]
    result: int | None
    total: int
    prompts: tuple[str, ...]
    answers: tuple[tuple[Answer | None, ...], ...]
    scored: bool


@dataclass(frozen=True)
class PackedAnswers:
    """``header``: what the page needs to know before it unpacks the block of gzip in base64."""

    header: dict[str, Any]
    block: str


def read_answers(run: Run, figures: RunFigures) -> Answers | None:
    """The answers of a run's evaluated policies; None where nothing was sampled.

    Args:
        run: The run.
        figures: Of the run.

    Raises:
        StoreError: a table is missing or corrupt.
    """
    order = sorted(figures.policies, key=lambda policy: (policy.role == BASELINE, policy.role != INITIAL))
    shown = [policy for policy in order if policy.figures.n]
    if not shown:
        return None
    names = {policy.name: place for place, policy in enumerate(shown)}
    found = [_of_policy(run, policy.role, names) for policy in shown]
    prompts = {prompt_id: prompt for rows, _ in found for prompt_id, (prompt, _) in rows.items()}
    ids = list(prompts)
    ids = [ids[place * len(ids) // min(PROMPTS, len(ids))] for place in range(min(PROMPTS, len(ids)))]
    return Answers(
        policies=tuple(policy.title for policy in shown),
        result=next((place for place, policy in enumerate(shown) if policy == figures.best), None),
        total=len(prompts),
        prompts=tuple(prompts[prompt_id] for prompt_id in ids),
        answers=tuple(tuple(rows[name][1] if name in rows else None for rows, _ in found) for name in ids),
        scored=any(scored for _, scored in found),
    )


def _of_policy(run: Run, role: str, policies: dict[str, int]) -> tuple[dict[str, tuple[str, Answer]], bool]:
    """Prompt and answer by the prompt's id, and whether the answers have scores. ``policies``: places by name."""
    verdicts = _verdicts(run, role, policies)
    table = read_table(run.path(evaluation(role), SAMPLES))
    scored = "score" in table.column_names
    names = ["prompt_id", "prompt", "text", "ids", "finished", *(["score"] if scored else [])]
    rows = {}
    for row in table.select(names).to_pylist():
        judged = tuple(verdicts.get(row["prompt_id"], ()))
        answer = Answer(row["text"], len(row["ids"]), row["finished"], row.get("score"), judged)
        rows[row["prompt_id"]] = (row["prompt"], answer)
    return rows, scored


def _verdicts(run: Run, role: str, policies: dict[str, int]) -> dict[str, list[Judged]]:
    """The verdicts on a policy's answers by the prompt's id, against each policy that is shown."""
    path = run.path(evaluation(role), VERDICTS)
    found: dict[str, list[Judged]] = {}
    for row in read_table(path).to_pylist() if path.is_file() else ():
        if row["rival"] in policies:
            orders = row["orders"]
            text = row["error"] or row["unreadable"] or row["explanation"]
            judged = Judged(policies[row["rival"]], row["first_better"], orders and (orders[0], orders[1]), text)
            found.setdefault(row["prompt_id"], []).append(judged)
    return found


def pack_answers(answers: Answers, most: int) -> PackedAnswers:
    """Pack answers into at most ``most`` bytes."""
    for prompts in fewer(len(answers.prompts)):
        for longest in LEVELS if prompts == len(answers.prompts) else LEVELS[-1:]:
            packed = _pack(answers, prompts, longest)
            if len(packed.block) <= most or prompts == 0:
                return packed
    raise AssertionError("no prompts at all always fit")


def _pack(answers: Answers, count: int, longest: int) -> PackedAnswers:
    places = [at * len(answers.prompts) // count for at in range(count)]
    prompts = [cut_text(answers.prompts[place], longest) for place in places]
    rows = [[_answer(one, longest) for one in answers.answers[place]] for place in places]
    cut = sum(1 for row in (*prompts, *(one for row in rows for one in row if one)) if row[1])
    header = {
        "policies": answers.policies,
        "result": answers.result,
        "scored": answers.scored,
        "prompts": count,
        "total": answers.total,
        "cut": cut,
        "longest": longest,
        "template": template_ends(pa.array([text for text, _ in prompts], pa.string())).to_dict(),
    }
    return PackedAnswers(header, block({"prompts": prompts, "answers": rows}))


def _answer(one: Answer | None, longest: int) -> list[Any] | None:
    if one is None:
        return None
    verdicts = [
        [each.rival, each.first_better, each.orders, each.text and cut_text(each.text, longest)[0]]
        for each in one.verdicts
    ]
    return [*cut_text(one.text, longest), one.length, one.finished, one.score, verdicts]

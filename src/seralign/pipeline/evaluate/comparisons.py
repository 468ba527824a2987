"""Comparisons of the outputs of policies by a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pyarrow as pa

from seralign.errors import DataError
from seralign.evaluation.judges import Comparison, Judge, Verdict
from seralign.evaluation.win_rates import decide
from seralign.pipeline.evaluate.outputs import Output, Outputs
from seralign.pipeline.evaluate.prompts import Question
from seralign.runs.files import write_table
from seralign.runs.results import Results

COMPARISONS = "comparisons.parquet"


@dataclass(frozen=True, slots=True)
class Compared:
    """The verdict on a policy's output to a prompt against that of a rival.

    ``equal``: both texts are the same; this is a tie, and the judge is not asked.
    """

    question: Question
    own: Output
    theirs: Output
    verdict: Verdict
    equal: bool


@dataclass(frozen=True)
class Pairing:
    """All comparisons of a policy with a rival."""

    policy: str
    rival: str
    compared: tuple[Compared, ...]


def pairs_of(names: Sequence[str], baseline: str | None) -> list[tuple[str, str]]:
    """The policies to compare, each with its rival: each with the baseline, or each later one with each earlier one."""
    if baseline is not None:
        return [(name, baseline) for name in names if name != baseline]
    return [(later, earlier) for earlier, later in combinations(names, 2)]


def compare_all(
    judge: Judge,
    questions: Sequence[Question],
    outputs: Sequence[Outputs],
    baseline: str | None,
    results: Results,
    replay: bool = False,
) -> list[Pairing]:
    """Verdicts on the outputs of all pairs of policies. Stored verdicts are not asked again.

    Args:
        judge: The judge.
        questions: The prompts.
        outputs: The outputs of each policy.
        baseline: The policy that the others are compared with; None for all with all.
        results: Stored results.
        replay: Use stored verdicts only.

    Raises:
        ConfigError: the judge fails, or gives no verdict on any comparison of two policies.
        DataError: two policies have no prompt in common.
        StoreError: with ``replay``, a comparison has no stored verdict.
    """
    by_name = {one.name: one for one in outputs}
    return [
        _compare(judge, questions, by_name[policy], by_name[rival], results, replay)
        for policy, rival in pairs_of(list(by_name), baseline)
    ]


def write_comparisons(root: Path, pairings: Sequence[Pairing]) -> None:
    """Write all comparisons as one table."""
    rows = [(pairing, one) for pairing in pairings for one in pairing.compared]
    verdicts = [one.verdict for _, one in rows]
    columns = {
        "prompt_id": pa.array([one.question.prompt.prompt_id for _, one in rows], pa.string()),
        "policy": pa.array([pairing.policy for pairing, _ in rows], pa.string()),
        "rival": pa.array([pairing.rival for pairing, _ in rows], pa.string()),
        "first_better": pa.array([verdict.first_better for verdict in verdicts], pa.float64()),
        "orders": pa.array([verdict.orders for verdict in verdicts], pa.list_(pa.float64())),
        "scores": pa.array([verdict.scores for verdict in verdicts], pa.list_(pa.float64())),
        "explanation": pa.array([verdict.explanation for verdict in verdicts], pa.string()),
        "unreadable": pa.array([verdict.unreadable for verdict in verdicts], pa.string()),
        "error": pa.array([verdict.error for verdict in verdicts], pa.string()),
        "members": pa.array([verdict.members for verdict in verdicts], pa.list_(pa.float64())),
        "equal": pa.array([one.equal for _, one in rows], pa.bool_()),
    }
    write_table(root / COMPARISONS, columns)


def _compare(
    judge: Judge, questions: Sequence[Question], own: Outputs, theirs: Outputs, results: Results, replay: bool
) -> Pairing:
    both = [
        (question, mine, other)
        for question, mine, other in zip(questions, own.answers, theirs.answers, strict=True)
        if mine is not None and other is not None
    ]
    if not both:
        raise DataError(f"policies: there is no prompt that both {own.name} and {theirs.name} have an output for")
    asked = [
        Comparison(question.prompt, mine.text, other.text) for question, mine, other in both if mine.text != other.text
    ]
    label = f"{own.name} against {theirs.name}"
    verdicts = decide(judge, asked, results, label, "judge", replay) if asked else []
    found = dict(zip(asked, verdicts, strict=True))
    tie = Verdict(0.5)
    return Pairing(
        own.name,
        theirs.name,
        tuple(
            Compared(question, mine, other, found.get(Comparison(question.prompt, mine.text, other.text), tie),
                     mine.text == other.text)
            for question, mine, other in both
        ),
    )  # fmt: skip

"""Stored verdicts: a judge is asked once about a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seralign.evaluation.judges.base import Comparison, Judge, Verdict
from seralign.runs.results import Results, result_key


def stored_verdicts(
    judge: Judge, comparisons: Sequence[Comparison], results: Results
) -> Iterator[tuple[Comparison, Verdict]]:
    """The comparisons with a stored verdict."""
    keys = {verdict_key(judge, comparison): comparison for comparison in comparisons}
    for key, value in results.get(list(keys)):
        yield keys[key], Verdict.from_json(value)


def asked_verdicts(
    judge: Judge, comparisons: Sequence[Comparison], results: Results
) -> Iterator[tuple[Comparison, Verdict]]:
    """Ask the judge, and store each verdict as it arrives. Verdicts with an error are not stored."""
    for comparison, verdict in judge.judge(comparisons) if comparisons else ():
        if verdict.error is None:
            results.put({verdict_key(judge, comparison): verdict.to_json()})
        yield comparison, verdict


def verdict_key(judge: Judge, comparison: Comparison) -> bytes:
    """Identity of a verdict."""
    prompt = comparison.prompt
    content = [judge.identity, prompt.prompt_id, prompt.text, comparison.first, comparison.second]
    return result_key("verdict", content)

"""Compares the answers of two policies to the same prompts with the run's judge."""

from __future__ import annotations

from typing import Any, cast

import datasets

from seralign.data.table import to_prompt
from seralign.evaluation.judges import Comparison, Verdict
from seralign.evaluation.win_rates import decide
from seralign.intervals import outcomes
from seralign.pipeline.context import Loop
from seralign.records import Prompt
from seralign.runs.files import read_table
from seralign.runs.layout import SAMPLES, VERDICTS


def answers_of(loop: Loop, stage: str) -> dict[str, str]:
    """A policy's answers by prompt, from its evaluation; empty if it has none."""
    return _by_prompt(loop, stage, "text")


def prompts_by_id(prompts: datasets.Dataset) -> dict[str, Prompt]:
    """The prompts of a table by id."""
    found = (to_prompt(cast(dict[str, Any], row)) for row in prompts)
    return {prompt.prompt_id: prompt for prompt in found}


def stored_verdicts(loop: Loop, stage: str) -> dict[str, list[Verdict]]:
    """The stored verdicts of an evaluation by rival, in order of prompts; does not ask the judge."""
    path = loop.run.path(stage, VERDICTS)
    found: dict[str, list[Verdict]] = {}
    if path.is_file():
        for row in read_table(path).drop_columns(["prompt_id"]).to_pylist():
            found.setdefault(row.pop("rival"), []).append(Verdict.from_json(row))
    return found


def verdicts_by_score(loop: Loop, own: str, theirs: str) -> list[Verdict]:
    """Verdicts from the scores of two evaluations, on their common prompts; does not ask the judge."""
    one, other = (_by_prompt(loop, stage, "score") for stage in (own, theirs))
    shared = [name for name in one if name in other]
    better = outcomes([one[name] for name in shared], [other[name] for name in shared])
    return [Verdict(float(value)) for value in better]


def _by_prompt(loop: Loop, stage: str, column: str) -> dict[str, Any]:
    """A column of an evaluation's answers by prompt; empty if there are no answers."""
    path = loop.run.path(stage, SAMPLES)
    if not path.is_file():
        return {}
    table = read_table(path, ["prompt_id", column])
    return dict(zip(table["prompt_id"].to_pylist(), table[column].to_pylist(), strict=True))


def compare(
    loop: Loop, prompts: dict[str, Prompt], own: dict[str, str], theirs: dict[str, str], label: str
) -> dict[str, Verdict]:
    """Verdicts by prompt on ``own`` answers against ``theirs``. Only the main process calls it.

    Raises:
        ConfigError: the judge fails, or decides nothing.
    """
    assert loop.judge is not None
    shared = [name for name in own if name in theirs]  # an engine may have left out an answer
    comparisons = [Comparison(prompts[name], own[name], theirs[name]) for name in shared]
    return dict(zip(shared, decide(loop.judge, comparisons, loop.evaluated, label), strict=True))

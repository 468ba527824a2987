"""Head-to-head win rates of several runs' results, on the held-out prompts that both answered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from seralign.intervals import outcomes, share_interval
from seralign.report.contents import RunContents
from seralign.tables import Table, share


def duels(runs: Sequence[RunContents]) -> tuple[Table | None, list[str]]:
    """The win rate of each run's result against each other's, by score, paired by prompt; and why there is none of
    some. Runs without a scorer, or with different ones, are for the caller to leave out."""
    rows, notes = [], []
    for one, other in permutations(runs, 2):
        own, theirs = _scores(one), _scores(other)
        shared = [prompt for prompt in own if prompt in theirs]
        rate = share_interval(outcomes([own[prompt] for prompt in shared], [theirs[prompt] for prompt in shared]))
        if rate is not None:
            rows.append((f"{one.name} against {other.name}", share(rate), f"{rate.n:,}"))
        if own and theirs and len(shared) < max(len(own), len(theirs)) and one.name < other.name:
            notes.append(f"{one.name} and {other.name} share {len(shared):,} of their {len(own):,} and {len(theirs):,} "
                         "held-out prompts: head to head they are compared on those alone.")  # fmt: skip
    caption = "Head to head: how often a run's result scores higher on the same prompt, with 95% intervals"
    return (Table(caption, ("", "wins", "prompts"), tuple(rows)) if rows else None), notes


def _scores(run: RunContents) -> dict[str, float]:
    """Score of the result's answer by prompt; empty where there are none."""
    answers = run.answers
    if answers is None or answers.result is None:
        return {}
    found = zip(answers.prompts, (row[answers.result] for row in answers.answers), strict=True)
    return {prompt: one.score for prompt, one in found if one is not None and one.score is not None}

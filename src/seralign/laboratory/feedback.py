"""What a labeller can say besides which of two responses is better: scores, and goals in prompts.

Dimension letters: N pairs, G grades.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def scored_rows(rows: Sequence[dict[str, Any]], scores: np.ndarray) -> list[dict[str, Any]]:
    """Pairs [N] as rows with ``responses`` and ``scores`` in place of ``chosen`` and ``rejected``; scores [N, 2]."""
    found = []
    for row, own in zip(rows, scores.tolist(), strict=True):
        rest = {key: value for key, value in row.items() if key not in ("chosen", "rejected")}
        found.append({**rest, "responses": [row["chosen"], row["rejected"]], "scores": own})
    return found


def goal_rows(rows: Sequence[dict[str, Any]], scores: np.ndarray, grades: Sequence[str]) -> list[dict[str, Any]]:
    """Each pair twice, under prompts that ask for a grade (reward-augmented data, 2410.08067), at most [2N].

    The grade of a response is the part of all scores that its own is in, of as many equally large parts as there are
    grades. A pair whose prompt asks for the grade of its chosen response stays as it is. One whose prompt asks for that
    of its rejected response is turned round, ``gold_chosen`` and ``gold_rejected`` too; its ``pair_id`` ends in
    ``-turned``. A pair whose responses have the same grade is there once, as it is.

    Args:
        rows: Pairs.
        scores: Of their chosen and their rejected responses [N, 2].
        grades: Words, from the worst grade to the best [G].
    """
    cuts = np.quantile(scores, np.arange(1, len(grades)) / len(grades))
    graded: list[list[int]] = np.searchsorted(cuts, scores, side="right").tolist()
    found = []
    for row, (chosen, rejected) in zip(rows, graded, strict=True):
        found.append({**row, "prompt": asking_for(grades[chosen], row["prompt"])})
        if chosen == rejected:
            continue
        turned = {
            "pair_id": f"{row['pair_id']}-turned",
            "prompt": asking_for(grades[rejected], row["prompt"]),
            "chosen": row["rejected"],
            "rejected": row["chosen"],
            "gold_chosen": row["gold_rejected"],
            "gold_rejected": row["gold_chosen"],
        }
        found.append({**row, **turned})
    return found


def best_asked(rows: Sequence[dict[str, Any]], grades: Sequence[str]) -> list[dict[str, Any]]:
    """Rows whose prompts ask for the best grade."""
    return [{**row, "prompt": asking_for(grades[-1], row["prompt"])} for row in rows]


def asking_for(grade: str, prompt: str) -> str:
    """A prompt that asks for a grade."""
    return f"{grade} {prompt}"

"""Why a round helped or did not: what selection kept and what the policy made, held against the hidden truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from seralign.data.table import example_ids, length_difference, response_texts
from seralign.data.table import read_table as read_pairs
from seralign.evaluation.label_quality import generated_figures, margin_figures, selection_figures
from seralign.evaluation.scorer import Scorer
from seralign.laboratory.world import Truth
from seralign.runs import Run
from seralign.runs.files import read_table
from seralign.runs.layout import CROSSFIT, GENERATED, MARGINS, REVIEW, SELECTION, TRAINING


def round_mechanism(run: Run, index: int, truth: Truth, scorer: Scorer) -> dict[str, Any]:
    """The mechanism figures of a finished round after the first.

    A pair that the review before round 1 has swapped is looked at as it is trained on: what its label prefers now is
    the chosen response, and it is flipped where it was not.

    Args:
        run: The run.
        index: The round.
        truth: Of the offline pairs.
        scorer: Gold reward.

    Returns:
        ``selection`` and ``margins`` of the offline pairs; ``generated`` pairs that the round trained on, where there
        are any.
    """
    prefix = f"round-{index}"
    selected = read_table(run.path(f"{prefix}/select", SELECTION))
    ids, kept = selected["example_id"].to_pylist(), np.array(selected["kept"].to_pylist())
    scored = read_table(run.path(f"{prefix}/score", MARGINS))
    place = {example_id: row for row, example_id in enumerate(scored["example_id"].to_pylist())}
    rows = [place[example_id] for example_id in ids]
    longer = (scored["chosen_length"].to_numpy() - scored["rejected_length"].to_numpy()).astype(np.float64)[rows]
    hidden, swapped = truth.of(ids), _swapped(run, ids)
    gold, flipped = np.where(swapped, -1.0, 1.0) * hidden.gold_difference, hidden.flipped != swapped
    figures = {
        "selection": selection_figures(kept, gold, flipped, longer),
        "margins": margin_figures(selected["margin"].to_numpy(), gold, longer, flipped),
    }
    if run.exists(f"{prefix}/bootstrap"):
        figures["generated"] = _generated(run, prefix, scorer)
    return figures


def _swapped(run: Run, ids: list[str]) -> np.ndarray:
    """Whether the review before round 1 swapped the sides of each pair [N]; the hidden truth is of the sides before."""
    if not run.exists(CROSSFIT):
        return np.zeros(len(ids), dtype=bool)
    reviewed = read_table(run.path(CROSSFIT, REVIEW), ["example_id", "swapped"])
    found = dict(zip(reviewed["example_id"].to_pylist(), reviewed["swapped"].to_pylist(), strict=True))
    return np.array([found[example_id] for example_id in ids])


def _generated(run: Run, prefix: str, scorer: Scorer) -> dict[str, Any]:
    """Right and wrong among the generated pairs that were trained on."""
    composed = read_table(run.path(f"{prefix}/compose", TRAINING), ["example_id", "used"]).to_pylist()
    used = {row["example_id"] for row in composed if row["used"]}
    made = read_pairs(run.path(f"{prefix}/bootstrap", GENERATED))
    made = made.select([row for row, example_id in enumerate(example_ids(made)) if example_id in used])
    longer = length_difference(made)
    prompts = made["prompt"][:]
    if not prompts:
        return generated_figures(np.zeros(0), np.zeros(0), longer)
    chosen, rejected = (scorer(prompts, response_texts(made, place)) for place in (0, 1))
    return generated_figures(chosen, rejected, longer)

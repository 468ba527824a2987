"""Why a round helped or did not: the pairs that were selected and generated, compared with the hidden truth."""

from __future__ import annotations

import numpy as np

from seralign.data.table import read_table as read_pairs
from seralign.data.table_columns import all_lengths, example_ids, response_texts
from seralign.evaluation.label_quality import GeneratedFigures, generated_figures, margin_figures, selection_figures
from seralign.evaluation.scorer import Scorer
from seralign.laboratory.world import Truth
from seralign.rewards.ordering import ordering_of
from seralign.runs import Run
from seralign.runs.files import read_table
from seralign.runs.layout import (
    BOOTSTRAP,
    COMPOSE,
    CROSSFIT,
    GENERATED,
    MARGINS,
    REVIEW,
    SCORE,
    SELECT,
    SELECTION,
    TRAINING,
    round_stage,
)
from seralign.studies.figures import RoundLabels


def round_labels(run: Run, index: int, truth: Truth, scorer: Scorer) -> RoundLabels:
    """Right and wrong labels in a finished round after the first.

    A pair that the review before round 1 swapped counts as it is trained on: the response that its label prefers now is
    the chosen one, and the label is flipped where it was not before.

    Args:
        run: The run.
        index: The round.
        truth: Of the offline pairs.
        scorer: Gold reward.
    """
    selected = read_table(run.path(round_stage(index, SELECT), SELECTION))
    ids, kept = selected["example_id"].to_pylist(), np.array(selected["kept"].to_pylist())
    scored = read_table(run.path(round_stage(index, SCORE), MARGINS))
    place = {example_id: row for row, example_id in enumerate(scored["example_id"].to_pylist())}
    rows = [place[example_id] for example_id in ids]
    longer = (scored["chosen_length"].to_numpy() - scored["rejected_length"].to_numpy()).astype(np.float64)[rows]
    hidden, swapped = truth.of(ids), _swapped(run, ids)
    gold, flipped = np.where(swapped, -1.0, 1.0) * hidden.gold_difference, hidden.flipped != swapped
    return RoundLabels(
        selection_figures(kept, gold, flipped, longer),
        margin_figures(selected["margin"].to_numpy(), gold, longer, flipped),
        _generated(run, index, scorer) if run.exists(round_stage(index, BOOTSTRAP)) else None,
    )


def _swapped(run: Run, ids: list[str]) -> np.ndarray:
    """Whether the review before round 1 swapped the sides of each pair [N]; the hidden truth is of the sides before."""
    if not run.exists(CROSSFIT):
        return np.zeros(len(ids), dtype=bool)
    reviewed = read_table(run.path(CROSSFIT, REVIEW), ["example_id", "swapped"])
    found = dict(zip(reviewed["example_id"].to_pylist(), reviewed["swapped"].to_pylist(), strict=True))
    return np.array([found[example_id] for example_id in ids])


def _generated(run: Run, index: int, scorer: Scorer) -> GeneratedFigures:
    """Right and wrong among the generated pairs that were trained on; of a ranking, its best and its worst response."""
    composed = read_table(run.path(round_stage(index, COMPOSE), TRAINING), ["example_id", "used"]).to_pylist()
    used = {row["example_id"] for row in composed if row["used"]}
    made = read_pairs(run.path(round_stage(index, BOOTSTRAP), GENERATED))
    made = made.select([row for row, example_id in enumerate(example_ids(made)) if example_id in used])
    ordering = ordering_of(made)
    longer = ordering.margin(all_lengths(made, ordering.numbering))
    prompts = made["prompt"][:]
    if not prompts:
        return generated_figures(np.zeros(0), np.zeros(0), longer)
    texts = [response_texts(made, place) for place in range(int(ordering.numbering.counts.max()))]
    places = (ordering.numbering.places[numbers].tolist() for numbers in ordering.ends)
    sides = ([texts[place][row] for row, place in enumerate(own)] for own in places)
    chosen, rejected = (scorer(prompts, side) for side in sides)
    return generated_figures(chosen, rejected, longer)

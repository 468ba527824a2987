"""The review before round 1: copies of the policy judge the pairs that they were not trained on (cross-fitting)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np

from seralign import distributed
from seralign.config import CrossfitConfig, SelectionConfig
from seralign.data.table import column_arrays, example_ids, length_difference, pair_labels, to_example, write_examples
from seralign.data.table import read_table as read_pairs
from seralign.errors import DataError
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.data import Tables
from seralign.pipeline.inputs import SCORING
from seralign.pipeline.prepare import trained
from seralign.pipeline.scoring import pair_scores
from seralign.pipeline.training import train_stage
from seralign.records import content_id, oriented
from seralign.rewards.crossfit import calibrate, folds, soft_labels
from seralign.rewards.length_correction import length_slope
from seralign.rewards.selection import select
from seralign.runs.figures import CrossfitFigures
from seralign.runs.files import read_table, write_table
from seralign.runs.layout import CROSSFIT, PAIRS, REVIEW, fold_stage


def pair_folds(loop: Loop, pairs: datasets.Dataset, config: CrossfitConfig) -> np.ndarray:
    """The fold [N] of each pair.

    Raises:
        DataError: there are fewer prompts than folds.
    """
    prompts = [ids.tobytes() for ids in column_arrays(pairs, "prompt_ids")]
    if (found := len(set(prompts))) < config.folds:
        raise DataError(
            f"crossfit.folds: {config.folds} folds of {found} different prompts; a fold has all pairs of its prompts, "
            "so give at most as many folds"
        )
    return folds(prompts, config.folds, loop.seed("crossfit"))


def crossfitted(loop: Loop, tables: Tables, initial: Policy, reference: Policy, config: CrossfitConfig) -> Tables:
    """The run's data with its pairs reviewed: soft labels by margins that are calibrated against the labels, and the
    pairs with the largest margins alone. A pair whose new label prefers the rejected response has its sides swapped.

    K copies of the policy are each trained, as round 1 is, on the pairs outside one fold, and give margins to those
    inside. Held-out pairs stay as they are.
    """
    fold = pair_folds(loop, tables.pairs, config)
    copies = []
    for number in range(config.folds):
        stage = fold_stage(number)
        record = train_stage(
            loop,
            stage,
            start=initial,
            reference=reference,
            pairs=tables.pairs.select(np.flatnonzero(fold != number).tolist()),
            pairs_digest=content_id([tables.digest, config.folds, number]),
            heldout=tables.heldout,
            objective=loop.objective,
            config=loop.config.training,
        )
        copies.append(trained(loop, stage, f"copy {number + 1}", initial, record))
    inputs = {"data": tables.digest, "reference": reference.digest} | {copy.name: copy.digest for copy in copies}
    inputs |= loop.settings(*SCORING, "scoring.length_correction", "objective", "crossfit", "seed")
    record = loop.stage(CROSSFIT, inputs, lambda folder: _review(loop, tables.pairs, fold, copies, reference, folder))
    table = read_table(loop.run.path(CROSSFIT, REVIEW), ["kept"])
    kept = np.flatnonzero(table["kept"].to_numpy(zero_copy_only=False))
    pairs = read_pairs(loop.run.path(CROSSFIT, PAIRS))
    return replace(tables, pairs=pairs.select(kept.tolist()), digest=content_id([tables.digest, record.digest]))


def _review(
    loop: Loop, pairs: datasets.Dataset, fold: np.ndarray, copies: list[Policy], reference: Policy, folder: Path
) -> CrossfitFigures:
    """Margins under who has not seen the pair, labels from them, and which pairs stay."""
    config = loop.config.crossfit
    assert config is not None
    margins = np.empty(len(fold))
    for number, copy in enumerate(copies):
        own = np.flatnonzero(fold == number)
        margins[own] = pair_scores(loop, copy, reference, pairs.select(own.tolist())).margin
    given = pair_labels(pairs)
    if loop.config.scoring.length_correction:
        longer = length_difference(pairs)
        margins -= length_slope(margins, longer, given) * longer
    scale, accuracy = calibrate(margins, given), float(np.mean(margins > 0))
    if scale == 0.0:
        raise DataError(
            f"crossfit: copies of the policy order {accuracy:.0%} of {len(fold)} pairs that they have not seen as "
            "labelled, so their margins say nothing of the labels; train them for longer (training), or leave crossfit "
            "out"
        )
    p = soft_labels(margins, given, scale, config.trust)
    swapped = p < 0.5
    rule = SelectionConfig(fraction=config.keep)
    margins = np.where(swapped, -margins, margins)
    selection = select(example_ids(pairs), margins, rule, loop.seed("crossfit", "select"))
    if distributed.is_main():
        reviewed = {"fold": fold, "p": np.where(swapped, 1 - p, p), "swapped": swapped}
        write_table(folder / REVIEW, selection.table() | reviewed)
        labelled = zip(map(to_example, cast(Iterable[Mapping[str, Any]], pairs)), p.tolist(), strict=True)
        write_examples(folder / PAIRS, (oriented(pair, label) for pair, label in labelled))
    return CrossfitFigures(
        pairs=len(fold),
        kept=len(selection.kept),
        copies=len(copies),
        scale=scale,
        accuracy=accuracy,
        swapped=float(np.mean(swapped)),
        certainty=float(np.mean(np.abs(2 * p - 1))),
    )

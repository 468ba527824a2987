"""The stage that reviews the data before round 1: copies of the policy judge pairs that they were not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import datasets
import numpy as np

from seralign import distributed
from seralign.config import CrossfitConfig, SelectionConfig
from seralign.data.table import read_table, to_example, write_examples
from seralign.data.table_columns import column_arrays, pair_labels
from seralign.errors import DataError
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.forecast.foreseen import TrainingRows, foreseen, some_rows, table_rows
from seralign.pipeline.forecast.work import Passes, StageWork
from seralign.pipeline.inputs import SCORING
from seralign.pipeline.lineage import REFERENCE, RewardPolicy
from seralign.pipeline.scoring import pair_scores
from seralign.pipeline.stage import Context
from seralign.records import content_id, oriented
from seralign.rewards.crossfit import calibrate, folds, soft_labels
from seralign.rewards.length_correction import length_slope
from seralign.rewards.ordering import length_difference
from seralign.rewards.scored_pairs import scored_pairs
from seralign.rewards.selection import select
from seralign.runs.figures import CrossfitFigures
from seralign.runs.files import write_table
from seralign.runs.layout import CROSSFIT, PAIRS, REVIEW

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


def pair_folds(loop: Loop, pairs: datasets.Dataset, config: CrossfitConfig) -> np.ndarray:
    """The fold of each pair [N]."""
    prompts = [ids.tobytes() for ids in column_arrays(pairs, "prompt_ids")]
    return folds(prompts, config.folds, loop.seed("crossfit"))


@dataclass(frozen=True)
class OtherFolds:
    """The training rows of a copy of the policy: the pairs outside a fold; folds are counted from 0."""

    fold: int

    def table(self, context: Context) -> datasets.Dataset:
        """The pairs of the other folds."""
        return context.tables.pairs.select(self._numbers(context).tolist())

    def digest(self, context: Context) -> str:
        """Digest of the data and of their division into folds."""
        return content_id([context.tables.digest, _config(context).folds, self.fold])

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """The same pairs."""
        context = forecast.context
        return some_rows(table_rows(context.tables.pairs, context.loop.objective.reads), self._numbers(context))

    def _numbers(self, context: Context) -> np.ndarray:
        return np.flatnonzero(pair_folds(context.loop, context.tables.pairs, _config(context)) != self.fold)


@dataclass(frozen=True)
class Crossfit:
    """The stage that reviews the data: gives soft labels from calibrated margins, and decides which pairs stay. A pair
    whose new label prefers the rejected response is swapped.

    Each copy of the policy is trained like round 1 on the pairs outside one fold, and gives margins to the pairs in it.
    Held-out pairs are unchanged.

    Args:
        copies: The roles of the copies, in order of their folds.
    """

    copies: tuple[str, ...]
    name: str = CROSSFIT

    def inputs(self, context: Context) -> dict[str, str]:
        """Data, copies and reference, and how pairs are scored, corrected for length and labelled."""
        copies = map(context.policy, self.copies)
        inputs = {"data": context.tables.digest, "reference": context.policy(REFERENCE).digest}
        inputs |= {copy.name: copy.digest for copy in copies}
        return inputs | context.loop.settings(*SCORING, "scoring.length_correction", "objective", "crossfit", "seed")

    def work(self, context: Context, folder: Path) -> CrossfitFigures:
        """Score each pair under the copy that was not trained on it, and label it."""
        pairs, copies = context.tables.pairs, [context.policy(role) for role in self.copies]
        fold = pair_folds(context.loop, pairs, _config(context))
        return _review(context.loop, pairs, fold, copies, context.policy(REFERENCE), folder)

    def cost(self, forecast: Forecast) -> StageWork:
        """Passes over each fold under its copy and under the reference."""
        pairs = forecast.context.tables.pairs
        fold = pair_folds(forecast.loop, pairs, _config(forecast.context))
        passes: tuple[Passes, ...] = ()
        for number, copy in enumerate(self.copies):
            own = foreseen(pairs.select(np.flatnonzero(fold == number).tolist()))
            passes += forecast.rewards(own, [RewardPolicy(copy, REFERENCE)])
        return StageWork(self.name, len(pairs), "pairs", passes=passes, loads=len(passes))


def _config(context: Context) -> CrossfitConfig:
    assert context.config.crossfit is not None
    return context.config.crossfit


def _review(
    loop: Loop, pairs: datasets.Dataset, fold: np.ndarray, copies: list[Policy], reference: Policy, folder: Path
) -> CrossfitFigures:
    """Margins under the copies that were not trained on the pairs, labels from them, and which pairs stay."""
    config = loop.config.crossfit
    assert config is not None
    margins = np.empty(len(fold))
    for number, copy in enumerate(copies):
        own = np.flatnonzero(fold == number)
        margins[own] = pair_scores(loop, copy, reference, pairs.select(own.tolist())).margin
    given = pair_labels(pairs)
    if loop.config.scoring.length_correction != "none":
        longer = length_difference(pairs)
        margins -= length_slope(margins, longer, given) * longer
    scale, accuracy = calibrate(margins, given), float(np.mean(margins > 0))
    if scale == 0.0:
        raise DataError(
            f"crossfit: copies of the policy order {accuracy:.0%} of {len(fold)} pairs as labelled that they were not "
            "trained on, so their margins do not predict the labels; train them for longer (training), or leave "
            "crossfit out"
        )
    p = soft_labels(margins, given, scale, config.trust)
    swapped = p < 0.5
    rule = SelectionConfig(fraction=config.keep)
    margins = np.where(swapped, -margins, margins)
    if distributed.is_main():
        labelled = zip(map(to_example, cast(Iterable[Mapping[str, Any]], pairs)), p.tolist(), strict=True)
        turned = (oriented(pair, label) for pair, label in labelled)
        write_examples(folder / PAIRS, turned, loop.config.data.keep_columns)
    distributed.barrier()
    selection = select(scored_pairs(read_table(folder / PAIRS), margins), rule, loop.seed("crossfit", "select"))
    if distributed.is_main():
        reviewed = {"fold": fold, "p": np.where(swapped, 1 - p, p), "swapped": swapped}
        write_table(folder / REVIEW, selection.table() | reviewed)
    return CrossfitFigures(
        pairs=len(fold),
        kept=int(selection.is_kept.sum()),
        copies=len(copies),
        scale=scale,
        accuracy=accuracy,
        swapped=float(np.mean(swapped)),
        certainty=float(np.mean(np.abs(2 * p - 1))),
    )

"""The stage that selects the offline pairs or rankings of a round by their margins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import numpy as np
import pyarrow as pa

from seralign import distributed
from seralign.config import SelectionConfig
from seralign.data.table_columns import id_column, pair_labels, token_rows
from seralign.errors import DataError
from seralign.evaluation.metrics import similarity
from seralign.intervals import correlation
from seralign.pipeline.forecast.foreseen import foreseen
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.lineage import Round
from seralign.pipeline.model_rewards import model_inputs, model_passes, offline_margins
from seralign.pipeline.scoring import read_margins
from seralign.pipeline.stage import Context
from seralign.pipeline.trust import distrust, margins_trusted, trust_inputs
from seralign.progress import say
from seralign.rewards.ensemble import ensemble_margin
from seralign.rewards.length_correction import length_slope
from seralign.rewards.ordering import length_difference, ordering_of
from seralign.rewards.responses import Responses
from seralign.rewards.scored_pairs import scored_pairs
from seralign.rewards.selection import select
from seralign.runs.figures import SelectFigures
from seralign.runs.files import write_table
from seralign.runs.layout import MARGINS, SCORE, SELECT, SELECTION, round_name, round_stage

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast

# Diversity is measured on at most so many pairs or responses; more would not change the figures.
LOOKED_AT = 1000


@dataclass(frozen=True)
class Select:
    """The stage that selects offline pairs by the margins of the last two policies, or of reward models."""

    round: Round

    @property
    def name(self) -> str:
        """``round-2/select``, ..."""
        return round_stage(self.round.index, SELECT)

    @property
    def _scored(self) -> list[str]:
        """The stages that scored the pairs under the reward policies, last one first."""
        index = self.round.index
        return [round_stage(index - place, SCORE) for place in range(len(self.round.reward_policies))]

    def inputs(self, context: Context) -> dict[str, str]:
        """Pairs and margins, and how margins are combined, corrected for length and selected."""
        digests = [context.run.record(stage).digest for stage in self._scored]
        inputs = {"pairs": context.reviewed.digest} | dict(zip(("margins", "margins_before"), digests, strict=False))
        inputs |= model_inputs(context.loop)
        keys = ("scoring.ensemble_weight", "scoring.length_correction", "selection", "seed")
        return inputs | context.loop.settings(*keys) | trust_inputs(context, self.round)

    def work(self, context: Context, folder: Path) -> SelectFigures:
        """Write which pairs are kept, and why the others are not.

        Raises:
            DataError: no pair is kept.
        """
        loop, pairs, index = context.loop, context.reviewed.pairs, self.round.index
        ids = id_column(pairs)
        margins_of = [read_margins(loop.run.path(stage, MARGINS), ids) for stage in self._scored]
        last, before = margins_of[0], margins_of[1] if len(margins_of) > 1 else None
        longer = length_difference(pairs)
        ensembled = np.asarray(ensemble_margin(last, before, loop.config.scoring.ensemble_weight))
        margins = offline_margins(loop, Responses(pairs), ordering_of(pairs), ensembled)
        p = pair_labels(pairs)
        slope = length_slope(margins, longer, p) if loop.config.scoring.length_correction != "none" else 0.0
        margins = margins - slope * longer
        trusted = margins_trusted(context, self.round)
        if not trusted:
            say(f"{round_name(index)}: {distrust(context, self.round)}")
        rule = loop.config.selection if trusted else SelectionConfig(rule="all")
        selection = select(scored_pairs(pairs, margins), rule, loop.seed(round_name(index), SELECT))
        if not selection.is_kept.any():
            raise DataError(
                f"{round_name(index)}: selection.rule {rule.rule} (threshold {rule.threshold}) keeps none of "
                f"{len(ids)} pairs; their margins are between {margins.min():.3f} and {margins.max():.3f} nats"
            )
        if distributed.is_main():
            write_table(folder / SELECTION, selection.table() | {"disagreement": disagreement(last, before)})
        kept = selection.is_kept
        return SelectFigures(
            pairs=len(ids),
            kept=int(kept.sum()),
            margin_mean=float(margins.mean()),
            margin_mean_kept=float(margins[kept].mean()),
            margin_smallest_kept=float(margins[kept].min()),
            length_slope=slope,
            margin_length_correlation=correlation(margins, longer),
            margin_length_correlation_kept=correlation(margins[kept], longer[kept]),
            length_difference=float(longer.mean()),
            length_difference_kept=float(longer[kept].mean()),
            similarity_kept=mean_similarity(pairs, np.flatnonzero(kept)),
            trusted=trusted,
        )

    def cost(self, forecast: Forecast) -> StageWork:
        """Passes under reward models, if there are any; the rule gives the number of kept pairs."""
        passes = model_passes(forecast, foreseen(forecast.pairs)) if forecast.loop.reward_models else ()
        note = "" if forecast.config.selection.count_known else "at most: depends on the margins"
        return StageWork(
            self.name,
            len(foreseen_kept(forecast, self.round.index)),
            "pairs kept",
            note=note,
            passes=passes,
            loads=len(passes),
        )


def foreseen_kept(forecast: Forecast, index: int) -> np.ndarray:
    """As many pair numbers as a round will keep pairs, in no particular order."""
    seed = forecast.loop.seed(round_name(index), SELECT)
    return forecast.kept(forecast.pairs, forecast.config.selection, seed)


def disagreement(last: np.ndarray, before: np.ndarray | None) -> pa.Array:
    """|h1 - h2| [N] of the margins under the two policies of the ensemble; null if there is only one policy."""
    return pa.nulls(len(last), pa.float64()) if before is None else pa.array(np.abs(last - before))


def mean_similarity(pairs: datasets.Dataset, rows: np.ndarray) -> float | None:
    """Mean similarity of chosen and rejected (of the best and the worst of several responses) of the examples in some
    rows of a table, over about ``LOOKED_AT`` of them, spread evenly."""
    some = pairs.select(rows[:: max(1, len(rows) // LOOKED_AT)])
    ordering = ordering_of(some)
    best, worst = (ordering.numbering.places[numbers].tolist() for numbers in ordering.ends)
    both = zip(token_rows(some), best, worst, strict=True)
    found = (similarity(ids[first].tolist(), ids[last].tolist()) for (_, ids), first, last in both)
    values = [value for value in found if value is not None]
    return float(np.mean(values)) if values else None

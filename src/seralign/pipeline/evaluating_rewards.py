"""The evaluation stage of a reward model: its ranking of held-out responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import numpy as np

from seralign import distributed
from seralign.data.table_columns import example_ids, numbered_responses
from seralign.evaluation.metrics import ranked_right
from seralign.evaluation.summary import summarise
from seralign.intervals import Interval, share_interval
from seralign.pipeline.forecast.foreseen import foreseen
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.inputs import SCORING
from seralign.pipeline.scoring import policy_logps
from seralign.pipeline.stage import Context
from seralign.rewards.ordered import Ordered, ordered_pairs
from seralign.rewards.responses import Responses
from seralign.runs.examples import CARRIED
from seralign.runs.figures import EvaluateFigures
from seralign.runs.files import write_table
from seralign.runs.layout import HELDOUT_REWARDS, evaluation
from seralign.training.plan import response_packs
from seralign.training.train import heldout_packs

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast

# A column with more values than this, such as an identifier, makes no groups.
_VALUES = 50


@dataclass(frozen=True)
class RewardEvaluation:
    """The stage that measures a reward model on held-out examples.

    Accuracy is the share of pairs of responses with a known order whose better response has the higher reward, ties
    half; pairs of a prompt are one group.

    Args:
        role: Role of the reward model.
    """

    role: str

    @property
    def name(self) -> str:
        """``round-1/evaluate``."""
        return evaluation(self.role)

    def inputs(self, context: Context) -> dict[str, str]:
        """Data and model, and how it scores."""
        inputs = {"data": context.tables.digest, "policy": context.policy(self.role).digest}
        return inputs | context.loop.settings(*SCORING, "objective", "training.tokens_per_pack")

    def work(self, context: Context, folder: Path) -> EvaluateFigures:
        """Score the held-out responses, and write their rewards."""
        loop, heldout, model = context.loop, context.tables.heldout, context.policy(self.role)
        if not len(heldout):
            return summarise(model.name, [], [])
        packs = heldout_packs(heldout, loop.objective, loop.config.training, loop.packed_length)
        responses = Responses(heldout)
        rewards = policy_logps(loop, model, responses, response_packs(packs, responses.numbering))
        found = ordered_pairs(heldout, responses.numbering, rewards)
        if distributed.is_main():
            columns = {"example_id": example_ids(heldout), "rewards": responses.numbering.as_lists(rewards)}
            write_table(folder / HELDOUT_REWARDS, columns)
        prompts = [heldout["prompt_id"][row] for row in found.rows.tolist()]
        figures = summarise(
            model.name,
            [],
            [],
            margins=found.margins,
            prompt_ids=prompts,
            length_differences=responses.lengths[found.better] - responses.lengths[found.worse],
            labels=found.labels,
        )
        return replace(figures, by_column=_by_column(heldout, found, prompts, loop.config.data.keep_columns))

    def cost(self, forecast: Forecast) -> StageWork:
        """One pass over the held-out responses."""
        loop, heldout = forecast.loop, forecast.context.tables.heldout
        passes = ()
        if len(heldout):
            packs = heldout_packs(heldout, loop.objective, forecast.config.training, loop.packed_length)
            both = response_packs(packs, numbered_responses(heldout))
            passes = forecast.logps(foreseen(heldout), [self.role], both)
        return StageWork(self.name, len(heldout), "examples", passes=passes, loads=len(passes))


def _by_column(
    heldout: datasets.Dataset, found: Ordered, prompts: Sequence[str], columns: Sequence[str]
) -> dict[str, dict[str, Interval]]:
    """Accuracy by the values of each carried column, if it has at most ``_VALUES`` different ones."""
    right, rates = ranked_right(found.margins), dict[str, dict[str, Interval]]()
    for column in columns:
        values = heldout[f"{CARRIED}{column}"][:]
        own = np.array(["none" if values[row] is None else values[row] for row in found.rows.tolist()])
        different = np.unique(own)
        if len(different) > _VALUES:
            continue
        for value in different.tolist():
            at = np.flatnonzero(own == value)
            rate = share_interval(right[at], [prompts[number] for number in at.tolist()])
            if rate is not None:
                rates.setdefault(column, {})[value] = rate
    return rates

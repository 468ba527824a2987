"""The stage that pairs demonstrations with responses of the policy itself: SPIN (2401.01335), SAPO (2405.20830)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seralign import distributed
from seralign.data.table import read_table as read_pairs
from seralign.data.table import write_examples
from seralign.data.table_columns import column_lengths, response_lengths
from seralign.pipeline.bootstrapping import pair_figures
from seralign.pipeline.forecast.foreseen import TrainingRows, foreseen, own_keys, some_rows
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.lineage import Round
from seralign.pipeline.sampling import bootstrap_config, examples_of, round_demonstrations, round_segments
from seralign.pipeline.stage import Context
from seralign.policy.packs import Sizes
from seralign.records import Candidate, Example
from seralign.rewards.scored_pairs import scored_pairs
from seralign.rewards.selection import select
from seralign.rewards.self_play import sapo_pairs, spin_pairs
from seralign.runs.figures import BootstrapFigures
from seralign.runs.files import read_table, write_table
from seralign.runs.layout import (
    BOOTSTRAP,
    CANDIDATES,
    GENERATED,
    SAMPLE,
    SELECTION,
    round_name,
    round_stage,
)
from seralign.sampling import candidates_of

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


@dataclass(frozen=True)
class SelfPlay:
    """The stage that makes pairs whose chosen responses are demonstrations and whose rejected ones were sampled.

    Nothing ranks them, so their margins are 0, and ``bootstrap.selection`` keeps all of them or some at random.
    """

    round: Round

    @property
    def name(self) -> str:
        """``round-1/bootstrap``, ..."""
        return round_stage(self.round.index, BOOTSTRAP)

    def inputs(self, context: Context) -> dict[str, str]:
        """Demonstrations, sampled responses, and how pairs are made and selected."""
        loop = context.loop
        inputs = {
            "data": context.tables.digest,
            "candidates": context.run.record(round_stage(self.round.index, SAMPLE)).digest,
        }
        keys = ("bootstrap.method", "bootstrap.prompts", "bootstrap.selection", "bootstrap.max_new_tokens", "seed")
        return inputs | loop.settings(*keys) | loop.tokenizer_inputs

    def work(self, context: Context, folder: Path) -> BootstrapFigures:
        """Write the pairs, and which of them are kept."""
        loop, config, index = context.loop, bootstrap_config(context), self.round.index
        left_out: Counter[str] = Counter()
        if distributed.is_main():
            write_examples(folder / GENERATED, self._pairs(context, left_out), loop.config.data.keep_columns)
        distributed.barrier()
        pairs = read_pairs(folder / GENERATED)
        margins = np.zeros(len(pairs))
        selection = select(scored_pairs(pairs, margins), config.selection, loop.seed(round_name(index), BOOTSTRAP))
        if distributed.is_main():
            write_table(folder / SELECTION, selection.table() | {"disagreement": [None] * len(pairs)})
        figures = pair_figures(pairs, None, selection, left_out)
        # The texts of SAPO are alike by design.
        return replace(figures, similarity_kept=None) if config.method == "sapo" else figures

    def cost(self, forecast: Forecast) -> StageWork:
        """No model is used."""
        return StageWork(self.name, len(foreseen_demonstrated(forecast, self.round.index)), "pairs at most")

    def _pairs(self, context: Context, left_out: Counter[str]) -> Iterator[Example]:
        index = self.round.index
        table = read_table(context.run.path(round_stage(index, SAMPLE), CANDIDATES))
        candidates: dict[str, list[Candidate]] = {}
        for candidate in candidates_of(table):
            candidates.setdefault(candidate.prompt_id, []).append(candidate)
        shown = examples_of(round_demonstrations(context, index))
        if bootstrap_config(context).method == "spin":
            return spin_pairs(index, shown, candidates, left_out)
        text = partial(_text, context)
        return sapo_pairs(index, shown, candidates, round_segments(context, index), text, left_out)


def foreseen_demonstrated(forecast: Forecast, index: int) -> TrainingRows:
    """The pairs that a round will make at most and keep: demonstrations beside responses that are not sampled yet.

    A response with another segment is as long as its demonstration.
    """
    context, config = forecast.context, bootstrap_config(forecast.context)
    shown = round_demonstrations(context, index)
    numbers = np.repeat(np.arange(len(shown)), config.samples)
    prompts, chosen = column_lengths(shown, "prompt_ids")[numbers], response_lengths(shown, 0)[numbers]
    rejected = chosen
    if config.method == "spin":
        rejected = np.full_like(chosen, forecast.lengths.within(config.sampling.limit).mean)
    sizes = Sizes(prompts + chosen + rejected, prompts + np.maximum(chosen, rejected), np.full_like(chosen, 2))
    own = foreseen(shown, "first").keys
    made = own_keys(round_stage(index, BOOTSTRAP), len(numbers))
    rows = TrainingRows(sizes, prompts, np.concatenate([own[numbers], made]))
    kept = len(numbers) if config.selection.rule == "all" else round(config.selection.fraction * len(numbers))
    return some_rows(rows, np.arange(max(kept, 1)))


def _text(context: Context, ids: Sequence[int]) -> str:
    return str(context.loop.tokenizer.decode(list(ids), skip_special_tokens=True))

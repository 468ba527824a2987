"""The stage that composes the training data of a round from generated pairs alone, its own and earlier ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import numpy as np
import pyarrow as pa

from seralign.data.table import read_table as read_pairs
from seralign.data.table_columns import example_ids
from seralign.errors import DataError
from seralign.pipeline.bootstrapping import foreseen_made
from seralign.pipeline.composing import COMPOSITION, made_pairs, write_composition
from seralign.pipeline.forecast.foreseen import TrainingRows, joined, some_rows
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.lineage import Round
from seralign.pipeline.sampling import bootstrap_config
from seralign.pipeline.self_play import foreseen_demonstrated
from seralign.pipeline.stage import Context
from seralign.records import content_id
from seralign.rewards.self_play import replayed
from seralign.runs.figures import BootstrapFigures, ComposeFigures
from seralign.runs.files import read_table
from seralign.runs.layout import (
    BOOTSTRAP,
    COMPOSE,
    GENERATED,
    SELECTION,
    TRAINING,
    round_name,
    round_stage,
)
from seralign.tables import counted

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


@dataclass(frozen=True)
class Replay:
    """The stage that chooses what a round trains on: its own pairs and those of the ``bootstrap.replay`` rounds before.

    ``online`` and ``spin`` use all of them. ``sapo`` uses as many as the round has made, drawn from all of them; pairs
    that fewer rounds have used are drawn with a higher probability.
    """

    round: Round

    @property
    def name(self) -> str:
        """``round-1/compose``, ..."""
        return round_stage(self.round.index, COMPOSE)

    def inputs(self, context: Context) -> dict[str, str]:
        """The pairs of all rounds in the buffer, and how often they were used."""
        rounds = buffered(context, self.round.index)
        inputs = {f"pairs of round {each}": context.run.record(round_stage(each, BOOTSTRAP)).digest for each in rounds}
        uses = {f"used in round {each}": context.run.record(round_stage(each, COMPOSE)).digest for each in rounds[:-1]}
        return inputs | uses | context.loop.settings("bootstrap.method", "seed")

    def work(self, context: Context, folder: Path) -> ComposeFigures:
        """Write which of the kept pairs are used.

        Raises:
            DataError: there are none.
        """
        index = self.round.index
        buffer = {each: _kept(context, each) for each in buffered(context, index)}
        ids = [name for pairs in buffer.values() for name in pairs]
        if not ids:
            raise DataError(_without_pairs(context, index))
        used = set(ids)
        if bootstrap_config(context).method == "sapo":
            count = len(buffer[index]) or len(ids)
            used = replayed(ids, self._uses(context), count, context.loop.seed(round_name(index), COMPOSE))
        rows = [
            (name, f"generated:{each}", margin, name in used)
            for each, pairs in buffer.items()
            for name, margin in pairs.items()
        ]
        columns = dict(zip(COMPOSITION.names, zip(*rows, strict=True), strict=True))
        write_composition(folder, pa.table(columns, COMPOSITION))
        return ComposeFigures(0, len(used), 1.0, 1.0)

    def cost(self, forecast: Forecast) -> StageWork:
        """No model is used."""
        return StageWork(self.name, len(_foreseen(forecast, self.round.index)), "pairs at most")

    def _uses(self, context: Context) -> Counter[str]:
        """How many earlier rounds of the buffer used each pair."""
        uses: Counter[str] = Counter()
        for each in buffered(context, self.round.index)[:-1]:
            uses.update(_used(context, each)[0])
        return uses


@dataclass(frozen=True)
class GeneratedPairs:
    """The training rows of a round without offline pairs."""

    round: Round

    def table(self, context: Context) -> datasets.Dataset:
        """The pairs by the round that made them, earlier ones first."""
        wanted, origins = _used(context, self.round.index)
        tables = []
        for each in buffered(context, self.round.index):
            if f"generated:{each}" in origins:
                made = read_pairs(context.run.path(round_stage(each, BOOTSTRAP), GENERATED))
                tables.append(made.select([row for row, name in enumerate(example_ids(made)) if name in wanted]))
        return datasets.concatenate_datasets(tables)

    def digest(self, context: Context) -> str:
        """Digest of the composition, and of the pairs of all rounds in the buffer."""
        run, index = context.run, self.round.index
        made = [run.record(round_stage(each, BOOTSTRAP)).digest for each in buffered(context, index)]
        return content_id([run.record(round_stage(index, COMPOSE)).digest, *made])

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """As many pairs as will be made at most."""
        return _foreseen(forecast, self.round.index)


# What gives no pair, and what to change. Only where something ranks the responses may there be more than two.
_REMEDIES = {
    "unfinished": "raise bootstrap.max_new_tokens",
    "tie": "give a judge or a scorer that tells the answers apart (evaluation.judge, evaluation.scorer)",
    "no contrast": "give rewards that tell the answers apart (scoring.reward_models)",
    "without a verdict": "give a judge with a verdict on every pair (evaluation.judge)",
    "skipped": "label more pairs",
    "same as the demonstration": "give demonstrations that the policy does not write itself",
}
_ALIKE = ("repeated", "empty", "prompts without two responses")


def _without_pairs(context: Context, index: int) -> str:
    """The error of a round without any pairs. What it sampled is stored, so other settings need another folder."""
    left_out = context.run.figures(round_stage(index, BOOTSTRAP), BootstrapFigures).left_out
    config = context.config
    ranked = bootstrap_config(context).demonstrated or config.scoring.reward != "implicit" or config.reference.model
    alike = "raise bootstrap.temperature or bootstrap.samples" if ranked else "raise bootstrap.temperature"
    remedies = [text for reason, text in _REMEDIES.items() if left_out.get(reason)]
    if any(left_out.get(reason) for reason in _ALIKE) and not left_out.get("unfinished"):
        remedies.append(alike)
    return (
        f"{round_name(index)}: no pairs to train on ({counted(left_out) or 'no prompts'}); "
        f"{', and '.join(remedies or [alike])}. This folder keeps what was sampled with the present settings: begin a "
        "new run in another one (--out)"
    )


def buffered(context: Context, index: int) -> list[int]:
    """The rounds whose pairs a round may train on; the last one is itself."""
    return list(range(max(1, index - bootstrap_config(context).replay), index + 1))


def _kept(context: Context, index: int) -> dict[str, float]:
    """The margins of the pairs that a round has made and kept, by id."""
    table = read_table(context.run.path(round_stage(index, BOOTSTRAP), SELECTION), ["example_id", "margin", "kept"])
    return {row["example_id"]: row["margin"] for row in table.to_pylist() if row["kept"]}


def _used(context: Context, index: int) -> tuple[set[str], set[str]]:
    """The ids of the pairs that a round trains on, and their origins."""
    table = read_table(context.run.path(round_stage(index, COMPOSE), TRAINING), ["example_id", "origin", "used"])
    rows = [row for row in table.to_pylist() if row["used"]]
    return {row["example_id"] for row in rows}, {row["origin"] for row in rows}


def _foreseen(forecast: Forecast, index: int) -> TrainingRows:
    config = bootstrap_config(forecast.context)

    def made(each: int) -> TrainingRows:
        if config.demonstrated:
            return foreseen_demonstrated(forecast, each)
        return made_pairs(forecast, each, len(foreseen_made(forecast, each)))

    rows = reduce(joined, [made(each) for each in buffered(forecast.context, index)])
    if config.method != "sapo":
        return rows
    drawn = np.random.default_rng(forecast.loop.seed(round_name(index), COMPOSE)).permutation(len(rows))
    return some_rows(rows, np.sort(drawn[: len(made(index))]))

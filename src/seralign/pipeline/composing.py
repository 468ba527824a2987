"""The stage that composes the training data of a round from offline and generated pairs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import numpy as np
import pyarrow as pa

from seralign import distributed
from seralign.data.table import read_table as read_pairs
from seralign.data.table_columns import column_values
from seralign.errors import StoreError
from seralign.pipeline.bootstrapping import foreseen_made
from seralign.pipeline.forecast.foreseen import TrainingRows, joined, made_rows, some_rows
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.lineage import Round
from seralign.pipeline.sampling import bootstrap_config, foreseen_candidates
from seralign.pipeline.selecting import foreseen_kept
from seralign.pipeline.stage import Context
from seralign.records import OFFLINE, content_id
from seralign.rewards.pairing import mix
from seralign.rewards.scored_pairs import ScoredPairs, scored_pairs
from seralign.rewards.selection import select_fewer
from seralign.runs import Run
from seralign.runs.figures import ComposeFigures, SelectFigures
from seralign.runs.files import read_parts, read_table, write_table
from seralign.runs.layout import (
    BOOTSTRAP,
    COMPOSE,
    GENERATED,
    SELECT,
    SELECTION,
    TRAINING,
    round_name,
    round_stage,
)

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


COMPOSITION = pa.schema(
    [("example_id", pa.string()), ("origin", pa.string()), ("margin", pa.float64()), ("used", pa.bool_())]
)
"""Of the pairs that a round may train on, and whether it does."""


@dataclass(frozen=True)
class Compose:
    """The stage that mixes the kept offline and generated pairs. It also records the pairs that it leaves out."""

    round: Round

    @property
    def name(self) -> str:
        """``round-2/compose``, ..."""
        return round_stage(self.round.index, COMPOSE)

    def inputs(self, context: Context) -> dict[str, str]:
        """Selected and generated pairs, and their shares in the mix."""
        loop, index = context.loop, self.round.index
        selected = context.run.record(round_stage(index, SELECT)).digest
        inputs = {"pairs": context.reviewed.digest, "selected": selected}
        inputs |= loop.settings("selection", "seed")
        if self.round.sample_from is None:
            return inputs
        generated = {"generated": context.run.record(round_stage(index, BOOTSTRAP)).digest}
        return inputs | generated | loop.settings("bootstrap.selection", "bootstrap.shares")

    def work(self, context: Context, folder: Path) -> ComposeFigures:
        """Write which of the kept pairs are used."""
        loop, config, run, index = context.loop, context.config.bootstrap, context.run, self.round.index
        kept = {OFFLINE: _kept(context.reviewed.pairs, run.path(round_stage(index, SELECT), SELECTION))}
        if config is not None:
            bootstrapped = round_stage(index, BOOTSTRAP)
            made = read_pairs(run.path(bootstrapped, GENERATED))
            kept[f"generated:{index}"] = _kept(made, run.path(bootstrapped, SELECTION))
        share = config.share(index) if config is not None else 0.0
        rules = [loop.config.selection] + ([] if config is None else [config.selection])
        sizes = [len(pairs.example_ids) for pairs in kept.values()]
        total = run.figures(round_stage(index, SELECT), SelectFigures).pairs
        counts = mix(sizes[0], sum(sizes[1:]), total, share)
        parts = []
        for (origin, pairs), rule, count in zip(kept.items(), rules, counts, strict=False):
            used = select_fewer(pairs, rule, count, loop.seed(round_name(index), COMPOSE, origin))
            columns = (pairs.example_ids, pa.repeat(origin, len(used)), pairs.margins, used)
            parts.append(pa.table(dict(zip(COMPOSITION.names, columns, strict=True)), COMPOSITION))
        write_composition(folder, pa.concat_tables(parts))
        own, made = counts
        return ComposeFigures(own, made, made / (own + made), share)

    def cost(self, forecast: Forecast) -> StageWork:
        """No model is used."""
        own, made = _foreseen_mix(forecast, self.round)
        return StageWork(self.name, own + made, "pairs", note=f"{own} offline, at most {made} generated")


@dataclass(frozen=True)
class ComposedPairs:
    """The training rows of a later round, from its composition."""

    round: Round

    def table(self, context: Context) -> datasets.Dataset:
        """Offline rows first, then generated ones."""
        index = self.round.index
        has_generated = context.run.figures(round_stage(index, COMPOSE), ComposeFigures).generated > 0
        return training_pairs(context.run, index, context.reviewed.pairs, has_generated)

    def digest(self, context: Context) -> str:
        """Digest of the data, of the generated pairs, and of the composition."""
        index, run = self.round.index, context.run
        generated = None if self.round.sample_from is None else run.record(round_stage(index, BOOTSTRAP)).digest
        return content_id([context.reviewed.digest, generated, run.record(round_stage(index, COMPOSE)).digest])

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """As many offline and generated pairs as will be used."""
        index = self.round.index
        own, made = _foreseen_mix(forecast, self.round)
        rows = some_rows(forecast.first_rows, foreseen_kept(forecast, index)[:own])
        if self.round.sample_from is None:
            return rows
        return joined(rows, made_pairs(forecast, index, made))


def write_composition(folder: Path, pairs: pa.Table) -> None:
    """Write the pairs that a round may train on, with the columns of ``COMPOSITION``."""
    if distributed.is_main():
        write_table(folder / TRAINING, {name: pairs[name] for name in COMPOSITION.names})


def made_pairs(forecast: Forecast, index: int, count: int) -> TrainingRows:
    """At most ``count`` of the pairs that a round will make of sampled responses and keep."""
    config, candidates = bootstrap_config(forecast.context), foreseen_candidates(forecast, index)
    responses = 2 if config.form == "pair" else config.samples
    return made_rows(candidates, config.samples, foreseen_made(forecast, index)[:count], responses)


def _foreseen_mix(forecast: Forecast, this: Round) -> tuple[int, int]:
    """Numbers of offline and of generated pairs that a round will use."""
    kept = len(foreseen_kept(forecast, this.index))
    if this.sample_from is None:
        return mix(kept, 0, len(forecast.pairs), 0.0)
    made = len(foreseen_made(forecast, this.index))
    return mix(kept, made, len(forecast.pairs), bootstrap_config(forecast.context).share(this.index))


def training_pairs(run: Run, index: int, pairs: datasets.Dataset, has_generated: bool) -> datasets.Dataset:
    """The composed training data of a round as one table, offline rows first."""
    composed = read_parts(run.path(round_stage(index, COMPOSE), TRAINING), ["example_id", "used"])
    # The composition is in the order of the tables.
    wanted = (name for part in composed for name in part.filter(part["used"])["example_id"].to_pylist())
    tables, name = [pairs], next(wanted, None)
    if has_generated:
        tables.append(read_pairs(run.path(round_stage(index, BOOTSTRAP), GENERATED)))
    chosen = []
    for table in tables:
        rows = array("q")
        for row, example_id in enumerate(column_values(table, "example_id")):
            if example_id == name:
                rows.append(row)
                name = next(wanted, None)
        if rows:
            chosen.append(table.select(np.array(rows)))
    if name is not None:
        raise StoreError(
            f"{run.root / round_stage(index, COMPOSE) / TRAINING}: names other pairs than those of the run"
        )
    return datasets.concatenate_datasets(chosen)


def _kept(pairs: datasets.Dataset, path: Path) -> ScoredPairs:
    """The pairs that a selection kept; it has a row for each of ``pairs``, in the same order."""
    selection = read_table(path, ["margin", "kept"])
    rows = np.flatnonzero(selection["kept"].to_numpy())
    return scored_pairs(pairs.select(rows), selection["margin"].to_numpy()[rows])

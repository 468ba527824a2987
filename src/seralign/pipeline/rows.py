"""Training rows: where they come from, their digest, and what is known of them before they exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import datasets

from seralign.config import RunConfig
from seralign.data.table_columns import training_columns
from seralign.objectives import ObjectiveSum
from seralign.pipeline.data import Tables
from seralign.pipeline.forecast.foreseen import TrainingRows, joined, table_rows
from seralign.pipeline.stage import Context
from seralign.records import content_id

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


class Rows(Protocol):
    """The rows of a training."""

    def table(self, context: Context) -> datasets.Dataset:
        """The rows, in the order by which training plans number them."""
        ...

    def digest(self, context: Context) -> str:
        """Digest of their contents."""
        ...

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """Their sizes, and the keys of their responses."""
        ...


def first_pairs(objective: ObjectiveSum, tables: Tables) -> datasets.Dataset:
    """The training data of round 1: all pairs; or demonstrations, if there are any and the objective takes them."""
    return tables.pairs if objective.compares else demonstrations(tables)


def demonstrations(tables: Tables) -> datasets.Dataset:
    """The data of supervised training: demonstrations, or chosen responses if there are none."""
    return tables.pairs if tables.demonstrations is None else tables.demonstrations


@dataclass(frozen=True)
class Demonstrations:
    """The rows of supervised training."""

    def table(self, context: Context) -> datasets.Dataset:
        """The demonstrations; or pairs, of which only the chosen responses are used."""
        return demonstrations(context.tables)

    def digest(self, context: Context) -> str:
        """Digest of the data."""
        return context.tables.digest

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """All rows."""
        return table_rows(demonstrations(forecast.context.tables), reads="first")


@dataclass(frozen=True)
class FirstPairs:
    """The rows of round 1: the pairs that the review keeps, with their new labels."""

    def table(self, context: Context) -> datasets.Dataset:
        """As ``first_pairs``."""
        return first_pairs(context.loop.objective, context.reviewed)

    def digest(self, context: Context) -> str:
        """Digest of the reviewed data."""
        return context.reviewed.digest

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """As many pairs as the review will keep."""
        return forecast.first_rows


@dataclass(frozen=True)
class AllPairs:
    """The rows of the baseline: all pairs as they were given."""

    def table(self, context: Context) -> datasets.Dataset:
        """The pairs of the data stage."""
        return context.tables.pairs

    def digest(self, context: Context) -> str:
        """Digest of the data."""
        return context.tables.digest

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """All rows."""
        return table_rows(forecast.context.tables.pairs, forecast.loop.objective.reads)


@dataclass(frozen=True)
class WithDemonstrations:
    """Other rows, and after them all demonstrations: a training on both (AIHF)."""

    rows: Rows

    def table(self, context: Context) -> datasets.Dataset:
        """The columns that a training reads."""
        return beside_demonstrations(self.rows.table(context), context.tables)

    def digest(self, context: Context) -> str:
        """Digest of the other rows and of the data."""
        return content_id([self.rows.digest(context), context.tables.digest])

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """The other rows as they are foreseen, and all demonstrations."""
        tables, reads = forecast.context.tables, forecast.loop.objective.reads
        return joined(self.rows.foreseen(forecast), table_rows(demonstrations(tables), reads))


def beside_demonstrations(table: datasets.Dataset, tables: Tables) -> datasets.Dataset:
    """A table of examples and after it the demonstrations, with the columns that a training reads."""
    return datasets.concatenate_datasets([training_columns(part) for part in (table, demonstrations(tables))])


def round_rows(config: RunConfig, rows: Rows) -> Rows:
    """The rows of a training of the run's objective: also the demonstrations, if it joins them."""
    return WithDemonstrations(rows) if config.objective.joins_demonstrations else rows

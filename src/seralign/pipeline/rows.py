"""Training rows: where they come from, their digest, and what is known of them before they exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import datasets

from seralign.objectives import ObjectiveSum
from seralign.pipeline.data import Tables
from seralign.pipeline.forecast.foreseen import TrainingRows, table_rows
from seralign.pipeline.stage import Context

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

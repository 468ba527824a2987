"""What trainings train on: where the rows come from, their digest, and what is known of them before they are there."""

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
        """The rows, in the order that training plans number them by."""
        ...

    def digest(self, context: Context) -> str:
        """Names their contents."""
        ...

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """Their sizes, and the keys of their responses."""
        ...


def first_pairs(objective: ObjectiveSum, tables: Tables) -> datasets.Dataset:
    """What round 1 trains on: all pairs; demonstrations where the objective compares no responses and there are any."""
    return tables.pairs if objective.compares else demonstrations(tables)


def demonstrations(tables: Tables) -> datasets.Dataset:
    """What supervised training trains on: the demonstrations, or the chosen responses where there are none."""
    return tables.pairs if tables.demonstrations is None else tables.demonstrations


@dataclass(frozen=True)
class Demonstrations:
    """The rows of supervised training."""

    def table(self, context: Context) -> datasets.Dataset:
        """Demonstrations, or pairs, whose chosen responses are read."""
        return demonstrations(context.tables)

    def digest(self, context: Context) -> str:
        """That of the data."""
        return context.tables.digest

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """All rows."""
        return table_rows(demonstrations(forecast.context.tables), reads="first")


@dataclass(frozen=True)
class FirstPairs:
    """The rows of round 1: those that stay after the review, with their new labels."""

    def table(self, context: Context) -> datasets.Dataset:
        """As ``first_pairs``."""
        return first_pairs(context.loop.objective, context.reviewed)

    def digest(self, context: Context) -> str:
        """That of the reviewed data."""
        return context.reviewed.digest

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """As many as will stay."""
        return forecast.first_rows


@dataclass(frozen=True)
class AllPairs:
    """The rows of the baseline: all pairs as they were given."""

    def table(self, context: Context) -> datasets.Dataset:
        """The pairs of the data stage."""
        return context.tables.pairs

    def digest(self, context: Context) -> str:
        """That of the data."""
        return context.tables.digest

    def foreseen(self, forecast: Forecast) -> TrainingRows:
        """All rows."""
        return table_rows(forecast.context.tables.pairs, forecast.loop.objective.reads)

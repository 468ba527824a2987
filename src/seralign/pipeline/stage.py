"""A stage of a run as data: what it reads, its work and its cost; and the context that stages work in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from seralign.config import RunConfig
from seralign.data.table import read_table as read_pairs
from seralign.pipeline.context import Loop, Policy, run_stage
from seralign.pipeline.data import Tables
from seralign.pipeline.lineage import BASE, BASELINE, INITIAL, REFERENCE, role_before, trained_by
from seralign.policy.identity import PolicySource
from seralign.policy.saved import on_merged, trained_source
from seralign.records import content_id
from seralign.runs import Run, StageRecord
from seralign.runs.figures import AverageFigures, BaseFigures, TrainFigures
from seralign.runs.files import read_table
from seralign.runs.layout import AVERAGE, CROSSFIT, PAIRS, POLICY, REVIEW, part_of, round_of
from seralign.runs.layout import BASE as BASE_STAGE

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast
    from seralign.pipeline.forecast.work import StageWork
    from seralign.pipeline.start import Start


# What a stage works with: a ``Context``; or a ``Start`` for the opening stages, which run before there is a context.
Given = TypeVar("Given", contravariant=True)
Work = TypeVar("Work")


class Stage(Protocol[Given]):
    """A stage. Each kind is a frozen dataclass in its own module; its fields distinguish the stages of that kind.

    A stage gets results of earlier stages only through ``context``, from the run's folder.
    """

    @property
    def name(self) -> str:
        """The stage's folder in the run, as named by ``seralign.runs.layout``."""
        ...

    def inputs(self, context: Given, /) -> dict[str, str]:
        """Digests of everything that the stage reads, by name. If one changes, the result can change."""
        ...

    def work(self, context: Given, folder: Path, /) -> object:
        """Fill the folder, and return the figures: a dataclass of ``seralign.runs.figures``.

        All processes of a run call it; only the main one writes, and its figures are kept.
        """
        ...

    def cost(self, forecast: Forecast) -> StageWork | None:
        """The work of models in the stage; None if no model is used and the time is negligible."""
        ...


class OpeningStage(Stage["Start"], Protocol):
    """A stage that completes the configuration or reads the data. Later stages depend on its result, so a plan runs
    it too."""

    def tell(self, start: Start, /) -> None:
        """Report the stage's result; called every time the run is started."""
        ...


@dataclass(frozen=True)
class Context:
    """What a stage works with.

    Args:
        opened: The opened run: its configuration, folder, tokenizer, caches and judges.
        tables: The data.
        given_base: The configured policy.
        given_reference: The configured reference, if there is one.
    """

    opened: Loop
    tables: Tables
    given_base: Policy
    given_reference: Policy | None

    @property
    def loop(self) -> Loop:
        """The run. After a merge, its configuration names the merged model instead of model and adapter."""
        return self._merged[0] if self._is_merged else self.opened

    @property
    def base(self) -> Policy:
        """The policy that the run starts from; after a merge, the merged model."""
        return self._merged[1] if self._is_merged else self.given_base

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.loop.config

    @property
    def run(self) -> Run:
        """The run's folder."""
        return self.opened.run

    @cached_property
    def reviewed(self) -> Tables:
        """The data of the rounds: the pairs and labels after the review before round 1, if there is one.

        Raises:
            StoreError: the review has not finished.
        """
        if self.config.crossfit is None:
            return self.tables
        table = read_table(self.run.path(CROSSFIT, REVIEW), ["kept"])
        staying = np.flatnonzero(table["kept"].to_numpy(zero_copy_only=False))
        pairs = read_pairs(self.run.path(CROSSFIT, PAIRS)).select(staying.tolist())
        digest = content_id([self.tables.digest, self.run.record(CROSSFIT).digest])
        return replace(self.tables, pairs=pairs, digest=digest)

    def policy(self, role: str) -> Policy:
        """The policy of a role of ``seralign.pipeline.lineage``.

        Raises:
            StoreError: the stage that trains it has not finished.
        """
        if role == BASE:
            return self.base
        if role == INITIAL:
            return self.base if self.config.sft is None else self._trained(role, "sft")
        if role == REFERENCE:
            return self.given_reference or replace(self.policy(INITIAL), name="reference")
        if role == BASELINE:
            return self._trained(role, self.loop.objective.name)
        if part_of(role) == AVERAGE:
            source = trained_source(self.run.root / role / POLICY, self.base.source)
            return Policy(f"average before round {round_of(role)}", source, self._average(role).digest, role)
        if (index := round_of(role)) is not None:
            return self._trained(role, f"round {index}")
        return self._trained(role, f"copy {role.rpartition('-')[2]}")

    def before(self, role: str) -> Policy | None:
        """The policy before that of a role in the run; None before the configured model."""
        earlier = role_before(role)
        return None if earlier is None else self.policy(earlier)

    @property
    def _is_merged(self) -> bool:
        return self.opened.config.policy.merges and self.run.exists(BASE_STAGE)

    @cached_property
    def _merged(self) -> tuple[Loop, Policy]:
        config = on_merged(self.opened.config, self.run)
        source, digest = PolicySource(str(config.policy.model)), self.run.figures(BASE_STAGE, BaseFigures).digest
        return replace(self.opened, config=config), replace(self.given_base, source=source, digest=digest)

    def _average(self, stage: str) -> AverageFigures:
        return self.run.figures(stage, AverageFigures)

    def _trained(self, role: str, name: str) -> Policy:
        stage = trained_by(role)
        source = trained_source(self.run.root / stage / POLICY, self.base.source)
        return Policy(name, source, self.run.figures(stage, TrainFigures).digest, stage)


def carry_out(run: Run, stage: Stage[Work], context: Work) -> StageRecord:
    """Run a stage, or read it back if it has finished; returns its record.

    Raises:
        StoreError: the stage finished with other inputs, or its files are damaged.
    """
    return run_stage(run, stage.name, stage.inputs(context), partial(stage.work, context))

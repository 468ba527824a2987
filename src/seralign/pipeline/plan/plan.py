"""The plan of a run: its work, what that costs on this machine, and whether it fits. Uses a temporary folder only."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from seralign.config import RunConfig, to_dict
from seralign.data.table_columns import response_lengths
from seralign.pipeline.checks import check_sections
from seralign.pipeline.data import Tables
from seralign.pipeline.forecast.foreseen import Lengths
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.opening import carry_out_opening, opened_context
from seralign.pipeline.plan.bench import Bench
from seralign.pipeline.plan.costs import memory_at_hand
from seralign.pipeline.plan.disk import Disk, needed_disk
from seralign.pipeline.plan.estimate import MARGIN, Misfit, StageEstimate, estimate_stages, misfits
from seralign.pipeline.plan.notes import measuring_notes, notes
from seralign.pipeline.plan.remedies import static_misfits, with_remedies
from seralign.pipeline.plan.shares import Share, shares
from seralign.pipeline.plan.sizes import Budget
from seralign.pipeline.plan.stand_ins import measurable, sampled_limit
from seralign.pipeline.plan.workload import workload
from seralign.pipeline.rows import demonstrations
from seralign.pipeline.stage import Context
from seralign.pipeline.start import started
from seralign.policy.load import DTYPES
from seralign.policy.size import count_weights
from seralign.progress import say
from seralign.runs import Run, StageRecord, read_manifest
from seralign.runs.figures import PrecisionFigures
from seralign.runs.layout import BASE, MANIFEST, PRECISION

# Wall time until the last measurement begins, from the start of a plan. With what Python takes to start, with the
# arithmetic, and with a last size that takes longer than expected, a plan takes less than a minute.
WALL = 42.0
_ANY_LENGTH = Lengths(2**31, 2**31)


@dataclass(frozen=True)
class Packing:
    """How the rows of a training go through the model: packed or padded, and what that saves and costs in tokens."""

    stage: str
    packed: bool
    steps: int
    packs_a_step: int
    tokens: int
    shared: int
    padding: int


@dataclass(frozen=True)
class RunPlan:
    """What a run will take.

    Args:
        device: Where it would run.
        memory: Bytes that it may have there.
        stages: One after the other, in one process.
        shares: Memory of each of several processes, where ``training.shard`` divides the model.
        packing: Of each training.
        disk: None where no policy could be measured.
        misfits: What will not fit, and with which settings it would.
        notes: What the figures rest on.
    """

    device: str
    memory: int
    stages: list[StageEstimate]
    shares: list[Share]
    packing: list[Packing]
    disk: Disk | None
    misfits: list[Misfit]
    notes: list[str]

    @property
    def fits(self) -> bool:
        """Whether all of it fits."""
        return not self.misfits

    @property
    def seconds(self) -> float | None:
        """Guessed time of all stages that are not done; None where nothing could be measured."""
        left = [stage.seconds for stage in self.stages if not stage.done]
        return None if None in left else sum(second for second in left if second is not None)

    @property
    def at_most(self) -> float | None:
        """Their time where every sampled response is as long as it may be."""
        left = [stage.at_most for stage in self.stages if not stage.done]
        return None if None in left else sum(second for second in left if second is not None)

    @property
    def peak_bytes(self) -> int | None:
        """The largest peak of a stage."""
        return max((stage.peak_bytes for stage in self.stages if stage.peak_bytes is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """All figures by name, as JSON values."""
        totals = {"seconds": self.seconds, "at_most": self.at_most, "peak_bytes": self.peak_bytes, "fits": self.fits}
        return asdict(self) | totals


def plan_run(config: RunConfig, memory: int | None = None, now: Callable[[], float] = time.monotonic) -> RunPlan:
    """Read and tokenize the data of a run, time a few steps, and estimate what the run will take.

    The run's folder is read, never written.

    Args:
        config: The run.
        memory: Bytes that it may have; by default what is free here.
        now: The clock of the budget, in seconds.

    Raises:
        SeralignError: as ``seralign.pipeline.train``, before its first stage that needs a model.
    """
    budget = Budget(now() + WALL, now)
    check_sections(config)
    done = _done(config)
    with tempfile.TemporaryDirectory(prefix="seralign-plan-") as scratch:
        return _plan(Run(Path(scratch)), config, done, memory, budget)


def _plan(run: Run, given: RunConfig, done: dict[str, StageRecord], memory: int | None, budget: Budget) -> RunPlan:
    with started(run, given, None) as start:
        carry_out_opening(start)
        # A run that was begun keeps its precision, also where another one is fast here.
        precision = run.read_figures(done.get(PRECISION) or run.record(PRECISION), PrecisionFigures).precision
        return _planned(opened_context(start, precision), done, memory, budget)


def _planned(context: Context, done: dict[str, StageRecord], memory: int | None, budget: Budget) -> RunPlan:
    run, config, base, tables = context.run, context.config, context.base, context.tables
    memory = memory_at_hand() if memory is None else memory
    guess = _lengths(config, tables)
    refused = static_misfits(config, base.source, MARGIN * memory)
    bench = Bench(context.loop, measurable(config, tables), base, budget)
    measured, longest = (None, context.loop.packed_length) if refused else bench.measure(memory)
    expected = workload(context, guess, longest)
    most = workload(context, _ANY_LENGTH, longest)
    found = refused if measured is None else with_remedies(bench, misfits(config, most, measured, memory), most, memory)
    left = [work for work in most if work.name not in done]
    disk = None if measured is None else needed_disk(run, config, left, measured)
    if disk is not None and config.policy.merges and BASE not in done:
        merged = count_weights(base.source, config.policy) * DTYPES[config.policy.dtype].itemsize
        disk = replace(disk, needed=disk.needed + merged)
    if disk is not None and disk.needed > disk.free:
        found = [*found, Misfit("out", disk.needed)]
    over = not budget.left
    stages = [_known(stage, run, done) for stage in estimate_stages(expected, most, measured)]
    device: Any = PartialState().device
    return RunPlan(
        device.type,
        memory,
        stages,
        [] if measured is None else shares(config, most, measured),
        _packing(expected, longest),
        disk,
        found,
        notes(config, guess, most, refused, done) + measuring_notes(config, stages, over),
    )


def _lengths(config: RunConfig, tables: Tables) -> Lengths:
    if not len(tables.pairs) and not config.demonstrated:
        return Lengths(sampled_limit(config), sampled_limit(config))
    chosen = response_lengths(tables.pairs if len(tables.pairs) else demonstrations(tables), 0)
    return Lengths(max(1, math.ceil(chosen.mean())), int(chosen.max()))


def _done(config: RunConfig) -> dict[str, StageRecord]:
    """Stages that the run's folder has, where they are this run's."""
    root = Path(config.out)
    if not (root / MANIFEST).is_file():
        return {}
    own = {key: value for key, value in json.loads(json.dumps(to_dict(config))).items() if key != "out"}
    if read_manifest(root)["config"] != own:
        say(f"{root} holds a run of another configuration; this is the plan of a new run")
        return {}
    return {record.name: record for record in Run(root).stages()}


def _known(stage: StageEstimate, run: Run, done: dict[str, StageRecord]) -> StageEstimate:
    """The estimate of a stage with the time that it took: of one that is done, or that the plan has carried out."""
    if stage.name in done:
        seconds = done[stage.name].seconds
        return replace(stage, seconds=seconds, at_most=seconds, done=True, note="done")
    if run.exists(stage.name):
        seconds = run.record(stage.name).seconds
        return replace(stage, seconds=seconds, at_most=seconds, note="measured just now")
    return stage


def _packing(work: Sequence[StageWork], longest: int) -> list[Packing]:
    found = []
    for stage in work:
        steps = stage.steps
        if steps is not None:
            tokens = int(steps.tokens.sum())
            packed = longest > 0 and steps.padding < tokens
            found.append(
                Packing(stage.name, packed, steps.count, steps.accumulation, tokens, steps.shared, steps.padding)
            )
    return found

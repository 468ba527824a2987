"""A run before it runs: what it will do, what that costs here, whether it fits. All in a temporary folder."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState

from seralign.config import LOCAL, RunConfig, to_dict
from seralign.data.table import response_lengths
from seralign.pipeline.context import Loop, run_results
from seralign.pipeline.data import Tables, data_stage
from seralign.pipeline.engines import check_samplers, run_judge, run_scorer, sampled_sections
from seralign.pipeline.plan.bench import SECONDS, Bench
from seralign.pipeline.plan.costs import memory_at_hand
from seralign.pipeline.plan.estimate import MARGIN, NEARLY, Measured, Misfit, StageEstimate, estimate_stages, misfits
from seralign.pipeline.plan.foreseen import Lengths
from seralign.pipeline.plan.remedies import count_weights, static_misfits, with_remedies
from seralign.pipeline.plan.workload import StageWork, workload
from seralign.pipeline.precision import settle, settled
from seralign.pipeline.prepare import base_policy, policies_stage, world_stage
from seralign.pipeline.run import check_tables
from seralign.pipeline.training import check_sections
from seralign.policy.abilities import packed_length
from seralign.policy.identity import PolicySource
from seralign.policy.load import DTYPES, end_tokens, load_tokenizer
from seralign.progress import say
from seralign.runs import Run, StageRecord, read_manifest
from seralign.runs.figures import PrecisionFigures
from seralign.runs.layout import BASE, DATA, MANIFEST, PRECISION, WORLD
from seralign.training.arguments import nominal_arguments

# The model is loaded and hashed, written, and loaded and hashed again.
_MERGE_LOADS = 3
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
class Disk:
    """Bytes that the run's folder will take at most, of which those of one saved policy and of one checkpoint; bytes
    free there."""

    needed: int
    policy: int
    checkpoint: int
    free: int


@dataclass(frozen=True)
class RunPlan:
    """What a run will take.

    Args:
        device: Where it would run.
        memory: Bytes that it may have there.
        stages: One after the other.
        packing: Of each training.
        disk: None where no policy could be measured.
        misfits: What will not fit, and with which settings it would.
        notes: What the figures rest on.
    """

    device: str
    memory: int
    stages: list[StageEstimate]
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


def plan_run(config: RunConfig, memory: int | None = None) -> RunPlan:
    """Read and tokenize the data of a run, time a few steps, and tell what the run will take.

    The run's folder is read, never written.

    Args:
        config: The run.
        memory: Bytes that it may have; by default what is free here.

    Raises:
        SeralignError: as ``seralign.pipeline.train``, before its first stage that needs a model.
    """
    check_sections(config)
    done = _done(config)
    with tempfile.TemporaryDirectory(prefix="seralign-plan-") as scratch:
        return _plan(Run(Path(scratch)), config, done, memory)


def _plan(run: Run, given: RunConfig, done: dict[str, StageRecord], memory: int | None) -> RunPlan:
    config = world_stage(run, given)
    base = base_policy(config)
    begun = done.get(PRECISION)
    settle(run, config, base.source)  # tells what is slow here, also where the run has begun elsewhere
    found = run.read_figures(begun or run.record(PRECISION), PrecisionFigures)
    config = settled(config, found.precision)
    tokenizer = load_tokenizer(base.source, config.policy)
    ends = end_tokens(base.source, tokenizer)
    scorer, objective = run_scorer(run, config, None), config.objective
    results = run_results(run)  # planning asks nobody, so there is nothing to store
    judge = run_judge(config, scorer, results)
    check_samplers(config, base, tokenizer, ends)
    tables = data_stage(run, config, tokenizer, ends, partial(check_tables, config, judge))
    length = packed_length(base.source, config.policy)
    loop = Loop(config, run, tokenizer, ends, objective, length, None, results, scorer, judge)
    reference = None if config.reference.model is None else policies_stage(loop, base, base)[1]
    memory = memory_at_hand() if memory is None else memory
    guess = _lengths(tables)
    refused = static_misfits(config, base.source, MARGIN * memory)
    bench = Bench(loop, tables, base)
    measured, longest = (None, length) if refused else bench.measure(memory)
    expected = workload(loop, tables, base, reference, guess, longest)
    most = workload(loop, tables, base, reference, _ANY_LENGTH, longest)
    found = refused if measured is None else with_remedies(bench, misfits(config, most, measured, memory), most, memory)
    disk = None if measured is None else _disk(run, given, [work for work in most if work.name not in done], measured)
    if disk is not None and config.policy.merges and BASE not in done:
        merged = count_weights(base.source, config.policy) * DTYPES[config.policy.dtype].itemsize
        disk = replace(disk, needed=disk.needed + merged)
    if disk is not None and disk.needed > disk.free:
        found = [*found, Misfit("out", disk.needed)]
    before = [_before(run.record(name)) for name in (WORLD, DATA) if run.exists(name)]
    merging = _merging(config, base.source, measured)
    stages = [_or_done(stage, done) for stage in before + merging + estimate_stages(expected, most, measured)]
    device: Any = PartialState().device
    return RunPlan(
        device.type,
        memory,
        stages,
        _packing(expected, longest),
        disk,
        found,
        _notes(config, guess, most, refused, done) + _extrapolations(config, stages),
    )


def _lengths(tables: Tables) -> Lengths:
    chosen = response_lengths(tables.pairs, 0)
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


def _before(record: StageRecord) -> StageEstimate:
    count = record.figures.get("pairs", 0)
    return StageEstimate(record.name, count, "pairs", 0, record.seconds, record.seconds, None, "measured just now")


def _merging(config: RunConfig, source: PolicySource, measured: Measured | None) -> list[StageEstimate]:
    """The stage that merges an adapter into its model; writing it is taken to last as long as reading it."""
    if not config.policy.merges:
        return []
    seconds = None if measured is None else _MERGE_LOADS * measured.loading
    peak = None if measured is None else count_weights(source, config.policy) * DTYPES["float32"].itemsize
    return [StageEstimate(BASE, 1, "model", 0, seconds, seconds, peak, "merges policy.adapter into policy.model")]


def _or_done(stage: StageEstimate, done: dict[str, StageRecord]) -> StageEstimate:
    if stage.name not in done:
        return stage
    seconds = done[stage.name].seconds
    return replace(stage, seconds=seconds, at_most=seconds, done=True, note="done")


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


def _disk(run: Run, config: RunConfig, work: Sequence[StageWork], measured: Measured) -> Disk:
    trainings = [stage.steps for stage in work if stage.steps is not None]
    policy = max((measured.steps[steps.section].saved_bytes for steps in trainings), default=0)
    policies = sum(measured.steps[steps.section].saved_bytes for steps in trainings)
    checkpoint = checkpoints = 0
    for steps in trainings:
        costs, settings = measured.steps[steps.section], config.sft if steps.section == "sft" else config.training
        assert settings is not None
        # An old checkpoint is deleted when the new one is whole.
        kept = nominal_arguments(settings, 1, steps.section).save_total_limit
        saves = min(math.ceil(steps.count / settings.save_steps), (kept or 0) + 1)
        checkpoint = max(checkpoint, costs.saved_bytes + costs.state_bytes)
        checkpoints = max(checkpoints, saves * (costs.saved_bytes + costs.state_bytes))
    data = sum(path.stat().st_size for path in run.root.rglob("*") if path.is_file())
    there = Path(config.out).absolute()
    while not there.exists():
        there = there.parent
    return Disk(data + policies + policy + checkpoints, policy, checkpoint, shutil.disk_usage(there).free)


def _extrapolations(config: RunConfig, stages: Sequence[StageEstimate]) -> list[str]:
    """What is larger than anything that was timed."""
    notes = []
    if any(stage.extrapolated is not None and stage.extrapolated > NEARLY and not stage.done for stage in stages):
        notes.append(
            f"measuring ends after {SECONDS:.0f} s: where figures are extrapolated, the largest forward pass or batch "
            "of the stage is so many times the largest that was timed"
        )
    precisions = {"training": config.training.precision, "scoring": config.scoring.dtype}
    notes.append(", ".join(f"{part} in {precision}" for part, precision in precisions.items()))
    return notes


def _notes(
    config: RunConfig, guess: Lengths, work: Sequence[StageWork], refused: list[Misfit], done: dict[str, StageRecord]
) -> list[str]:
    notes = []
    if any(stage.sampling is not None for stage in work):
        limits = {"evaluation": config.answer_tokens}
        if config.rounds > 1 and config.bootstrap is not None:
            limits["bootstrap"] = config.bootstrap.sampling.limit
        guesses = ", ".join(
            f"{guess.within(limit).mean} tokens in {section} ({section}.max_new_tokens: {limit})"
            for section, limit in limits.items()
        )
        notes.append(
            f"how long sampled responses will be is a guess: {guesses}, the limit or the mean of the chosen responses "
            f"({guess.mean} tokens), whichever is less; the column at most takes the limit"
        )
    if config.rounds > 1 and config.stop.metric != "never":
        notes.append(f"all {config.rounds} rounds are counted; stop.metric: {config.stop.metric} may end them earlier")
    for section, settings in (("sft", config.sft), ("training", config.training)):
        largest = [stage.steps.longest for stage in work if stage.steps is not None and stage.steps.section == section]
        if settings is not None and largest and max(largest) > settings.tokens_per_pack:
            notes.append(
                f"the longest row has {max(largest)} tokens, more than {section}.tokens_per_pack "
                f"({settings.tokens_per_pack}): it is a pack of its own"
            )
    if config.reference.model is not None:
        notes.append("the reference is taken to cost what the policy costs")
    if config.evaluation.scorer is not None:
        notes.append("the time of evaluation.scorer is not counted")
    if config.evaluation.judge is not None:
        notes.append("the time of evaluation.judge is not counted")
    for section, settings in sampled_sections(config).items():
        if settings.engine != LOCAL:
            notes.append(f"the time of {section}.engine, {settings.engine}, is not counted")
    if refused:
        notes.append("nothing was timed: the weights alone are too large")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores:
        notes.append(f"the processors are shared (load {load:.1f} on {cores}): without other work it will go faster")
    if done:
        notes.append(f"{len(done)} stages are done; their time is not in the total")
    return notes

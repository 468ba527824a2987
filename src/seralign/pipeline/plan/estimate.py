"""Seconds and bytes of each stage, from its work and the measured costs, and what will not fit. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seralign.config import RunConfig
from seralign.pipeline.forecast.rewarded import SECTION
from seralign.pipeline.forecast.work import Passes, Sampling, StageWork, Steps
from seralign.pipeline.plan.costs import Costs, Line, SamplingCosts, StepCosts

# The measured peaks lack what the allocator keeps of earlier stages: by its end a run takes up to a fifth more.
MARGIN = 0.8
# Sizes up to this factor above the largest that was timed count as timed.
NEARLY = 1.25


@dataclass(frozen=True)
class Measured:
    """What work costs here: passes and steps by section of the configuration, sampling, and seconds of loading.

    ``idle``: bytes of the process before a model is loaded.
    """

    passes: Mapping[str, Costs]
    steps: Mapping[str, StepCosts]
    sampling: SamplingCosts | None
    loading: float
    idle: int


@dataclass(frozen=True)
class Saved:
    """What a process saves by holding a part of the model only.

    Args:
        passes: Bytes that forward passes save.
        steps: Bytes that optimizer steps save.
        loading: Bytes that loading takes before the model is divided, on top of the process; it saves nothing there.
            0 where no process holds the whole model then.
    """

    passes: float = 0.0
    steps: float = 0.0
    loading: float = 0.0


WHOLE = Saved()


@dataclass(frozen=True)
class StageEstimate:
    """A stage before it runs.

    Args:
        name: Of the stage, as in the run's folder.
        count: How many of ``unit`` it makes.
        unit: What is counted.
        tokens: Tokens that go through a model.
        seconds: Guessed time; None where nothing could be measured.
        at_most: Time where every sampled response is as long as it may be.
        peak_bytes: Peak memory of the process (on a GPU: of the device).
        note: What else is known.
        done: Whether the run's folder has it already; the time is then what it took.
        extrapolated: How many times the largest that was timed the largest forward pass or batch of the stage is; 1
            where that was timed itself, None where no model runs.
        error: What the time may be off by where it is extrapolated, as a share of it (90%, from the residuals of the
            timed sizes); None where it is measured, or where too few sizes were timed to tell.
    """

    name: str
    count: int
    unit: str
    tokens: int
    seconds: float | None
    at_most: float | None
    peak_bytes: int | None
    note: str = ""
    done: bool = False
    extrapolated: float | None = None
    error: float | None = None


@dataclass(frozen=True)
class Misfit:
    """What will not fit, and the settings with which it would, by key; none where none is known."""

    what: str
    needed_bytes: int
    settings: dict[str, Any] = field(default_factory=dict)


def estimate_stages(
    guess: Sequence[StageWork], most: Sequence[StageWork], measured: Measured | None
) -> list[StageEstimate]:
    """Estimates of the stages.

    Args:
        guess: The stages, with responses of the length that is guessed.
        most: The same stages, with responses as long as they may be.
        measured: None where nothing could be measured.
    """
    return [
        StageEstimate(
            own.name,
            own.count,
            own.unit,
            own.tokens,
            None if measured is None else stage_seconds(own, measured),
            None if measured is None else stage_seconds(longer, measured),
            None if measured is None else stage_bytes(longer, measured),
            own.note,
            extrapolated=None if measured is None else stage_extrapolation(own, measured),
            error=None if measured is None else stage_error(own, measured),
        )
        for own, longer in zip(guess, most, strict=True)
    ]


def stage_seconds(work: StageWork, measured: Measured) -> float:
    """Seconds of a stage."""
    total = work.loads * measured.loading
    for part in work.passes:
        total += _packs_seconds(measured.passes[part.section].seconds, part)
    if work.steps is not None:
        costs = measured.steps[work.steps.section]
        total += costs.setup + _packs_seconds(costs.pack.seconds, work.steps) + work.steps.count * costs.optimizer
    if work.sampling is not None and measured.sampling is not None:
        total += _sampling_seconds(work.sampling, measured.sampling)
    return total


def stage_bytes(work: StageWork, measured: Measured, saved: Saved = WHOLE) -> int | None:
    """Peak bytes of a stage in one process, less what dividing the model saves; None where no model runs in it."""
    found = [
        line.at(part.tokens.max()) - saved.passes
        for part in work.passes
        for line in measured.passes[part.section].peaks
    ]
    found += [measured.idle + work.bytes] if work.bytes else []
    found += [measured.idle + saved.loading] if saved.loading else []
    if work.steps is not None:
        costs = measured.steps[work.steps.section]
        found += [peak - saved.steps for peak in (costs.whole, costs.pack.bytes.at(work.steps.tokens.max()))]
    if work.sampling is not None and measured.sampling is not None:
        # Where a training samples, its optimizer's state stays in memory.
        state = 0 if work.steps is None else measured.steps[work.steps.section].state_bytes
        found.append(state + sampling_bytes(work.sampling, measured.sampling, int(work.sampling.prompts.max())))
    return int(max(found)) + work.beside if found else None


def stage_extrapolation(work: StageWork, measured: Measured) -> float | None:
    """How far what the stage does goes beyond what was timed, as a factor of at least 1; None where no model runs."""
    found = [part.tokens.max() / measured.passes[part.section].largest for part in work.passes]
    if work.steps is not None:
        found.append(work.steps.tokens.max() / measured.steps[work.steps.section].pack.largest)
    if work.sampling is not None and measured.sampling is not None:
        found.append(work.sampling.prompts.max() * work.sampling.samples / measured.sampling.largest)
    return max(1.0, float(max(found))) if found else None


def stage_error(work: StageWork, measured: Measured) -> float | None:
    """What the seconds of a stage may be off by, as a share of them, as if all its lines were off the same way; None
    where it is measured, or where an error of its lines is not known."""
    if (stage_extrapolation(work, measured) or 1.0) <= NEARLY:
        return None
    parts: list[tuple[float, float | None]] = []
    for part in work.passes:
        costs = measured.passes[part.section]
        parts.append((costs.seconds.slope * float(part.tokens.sum()), costs.error))
    if work.steps is not None:
        costs = measured.steps[work.steps.section].pack
        parts.append((costs.seconds.slope * float(work.steps.tokens.sum()), costs.error))
    if work.sampling is not None and measured.sampling is not None:
        parts.append((_sampling_seconds(work.sampling, measured.sampling), measured.sampling.error))
    seconds, total = stage_seconds(work, measured), 0.0
    for own, error in parts:
        if error is None:
            return None
        total += own * error
    return total / seconds if seconds > 0 else None


def sampling_bytes(work: Sampling, costs: SamplingCosts, prompts: int) -> float:
    """Peak bytes of sampling from so many prompts at once, each response as long as the work says."""
    rows = prompts * work.samples
    more = max(0, int(work.widths.max()) + work.lengths.longest - costs.measured) * rows * costs.token_bytes
    more = min(more, max(0, costs.most_bytes - costs.measured * rows * costs.token_bytes))
    return max(costs.bytes.at(rows) + more, costs.prefill.at(prompts * int(work.widths.max())))


def misfits(config: RunConfig, work: Sequence[StageWork], measured: Measured, memory: float) -> list[Misfit]:
    """What of the work, with responses as long as they may be, needs more than ``MARGIN`` of the memory.

    The settings are the largest that fit, by the same arithmetic: with them the work fits. Where lower budgets do not
    help, a misfit has none.
    """
    limit = MARGIN * memory
    found = []
    for section in ("sft", "training"):
        steps = [stage.steps for stage in work if stage.steps is not None and stage.steps.section == section]
        if steps:
            passes = _passes(work, section)
            costs = measured.steps[section]
            lines = [(costs.pack.bytes, steps), (Line(costs.whole, 0.0), steps)]
            lines += [(line, passes) for line in measured.passes[section].peaks] if passes else []
            found += _tokens_misfit(f"{section}.tokens_per_pack", lines, limit)
    if passes := _passes(work, "scoring"):
        lines = [(line, passes) for line in measured.passes["scoring"].peaks]
        found += _tokens_misfit("scoring.tokens_per_pack", lines, limit)
    found += _pass_misfits(config, work, measured, limit)
    for section, size in (("bootstrap", config.bootstrap and config.bootstrap.sampling.batch_size),
                          ("evaluation", config.evaluation.sampling.batch_size)):  # fmt: skip
        sampling = [stage.sampling for stage in work if stage.sampling and stage.sampling.section == section]
        if sampling and measured.sampling is not None and size:
            found += _batch_misfit(f"{section}.batch_size", sampling, measured.sampling, limit)
    return found


def budget(lines: Sequence[tuple[Line, Sequence[Passes | Steps]]], limit: float) -> int | None:
    """The largest budget of tokens with which passes stay within ``limit`` bytes; None where the largest thing that
    cannot be divided is too large."""
    tokens = min(line.reaches(limit) for line, _ in lines)
    return tokens if tokens >= max(part.longest for _, parts in lines for part in parts) else None


def _tokens_misfit(key: str, lines: Sequence[tuple[Line, Sequence[Passes | Steps]]], limit: float) -> list[Misfit]:
    needed = max(line.at(max(int(part.tokens.max()) for part in parts)) for line, parts in lines)
    if needed <= limit:
        return []
    tokens = budget(lines, limit)
    return [Misfit(key, int(needed), {} if tokens is None else {key: tokens})]


def _pass_misfits(config: RunConfig, work: Sequence[StageWork], measured: Measured, limit: float) -> list[Misfit]:
    """Of a training on sampled responses: the largest number of prompts of a pass that fits."""
    found = []
    for stage in (stage for stage in work if stage.steps is not None and stage.steps.section == SECTION):
        steps, costs = stage.steps, measured.steps[SECTION]
        assert config.rlhf is not None
        assert steps is not None
        size, own = config.training.batch_size, config.rlhf.prompts_per_pass or config.training.batch_size
        needed = stage_bytes(stage, measured)
        if needed is None or needed <= limit:
            continue
        lines = (costs.pack.bytes, Line(costs.whole, 0.0))
        fewer = next(
            (
                prompts
                for prompts in range(own - 1, 0, -1)
                if size % prompts == 0
                and max(line.at(steps.tokens.max() * prompts / own) for line in lines) + stage.beside <= limit
            ),
            None,
        )
        key = f"{SECTION}.prompts_per_pass"
        found.append(Misfit(key, needed, {} if fewer is None else {key: fewer}))
    return found


def _batch_misfit(key: str, work: Sequence[Sampling], costs: SamplingCosts, limit: float) -> list[Misfit]:
    def needed(prompts: int) -> float:
        return max(sampling_bytes(part, costs, prompts) for part in work)

    size = max(int(part.prompts.max()) for part in work)
    if needed(size) <= limit:
        return []
    fitting = next((fewer for fewer in range(size - 1, 0, -1) if needed(fewer) <= limit), None)
    return [Misfit(key, int(needed(size)), {} if fitting is None else {key: fitting})]


def _passes(work: Sequence[StageWork], section: str) -> list[Passes]:
    return [part for stage in work for part in stage.passes if part.section == section]


def _packs_seconds(line: Line, work: Passes | Steps) -> float:
    return line.base * len(work.tokens) + line.slope * float(work.tokens.sum())


def _sampling_seconds(work: Sampling, costs: SamplingCosts) -> float:
    rows = int(work.prompts.sum()) * work.samples
    return (
        costs.prompt * float((work.prompts * work.widths).sum())
        + costs.step * len(work.prompts) * work.lengths.longest
        + costs.row * rows * work.lengths.mean
    )

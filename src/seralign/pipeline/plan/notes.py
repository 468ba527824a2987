"""Notes of a plan: assumptions behind its figures, and what they leave out."""

from __future__ import annotations

import os
from collections.abc import Sequence

from seralign.config import LOCAL, RunConfig
from seralign.pipeline.engines import sampled_sections
from seralign.pipeline.forecast.foreseen import Lengths
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.plan.bench import SECONDS
from seralign.pipeline.plan.estimate import NEARLY, Misfit, StageEstimate
from seralign.runs import StageRecord


def measuring_notes(config: RunConfig, stages: Sequence[StageEstimate], over: bool) -> list[str]:
    """Notes on what was measured, and in which precision; ``over``: whether the time of the whole plan was over."""
    found = []
    if config.training.shard != "none":
        found.append(
            f"training.shard: {config.training.shard}: times and the table's memory are those of one process that "
            "holds the whole model. Several divide the passes and steps, and the model as their own lines say (from "
            "formulas, see docs/planning.md; not for a model of unknown sizes). Communication is not counted. What "
            "does not fit in one process may fit in several"
        )
    if any(stage.extrapolated is not None and stage.extrapolated > NEARLY and not stage.done for stage in stages):
        found.append(
            f"measuring ends after {SECONDS:.0f} s: extrapolated is how many times larger the largest forward pass or "
            "batch of the stage is than the largest that was timed, with what its time may be off by (a 90% interval "
            "of the line through the timed sizes; ±? where they are fewer than three)"
        )
    if over:
        found.append(
            "the time of a plan was over before everything was measured: the data took most of it, or the machine is "
            "busy; what was not measured is extrapolated from the shortest sizes, and ways to train that would need "
            "less memory were not tried"
        )
    precisions = {"training": config.training.precision, "scoring": config.scoring.dtype}
    found.append(", ".join(f"{part} in {precision}" for part, precision in precisions.items()))
    return found


def notes(
    config: RunConfig, guess: Lengths, work: Sequence[StageWork], refused: list[Misfit], done: dict[str, StageRecord]
) -> list[str]:
    """Notes on the figures of a plan."""
    found = []
    if any(stage.sampling is not None for stage in work):
        limits = {"evaluation": config.answer_tokens}
        if config.bootstrap is not None and config.bootstraps:
            limits["bootstrap"] = config.bootstrap.sampling.limit
        if config.rlhf is not None:
            limits["rlhf"] = config.rlhf.limit
        guesses = ", ".join(
            f"{guess.within(limit).mean} tokens in {section} ({section}.max_new_tokens: {limit})"
            for section, limit in limits.items()
        )
        found.append(
            f"how long sampled responses will be is a guess: {guesses}, the limit or the mean of the chosen responses "
            f"({guess.mean} tokens), whichever is less; the column at most assumes the limit"
        )
    if config.rounds > 1 and config.stop.metric != "never":
        found.append(f"all {config.rounds} rounds are counted; stop.metric: {config.stop.metric} may end them earlier")
    for section, settings in (("sft", config.sft), ("training", config.training)):
        largest = [stage.steps.longest for stage in work if stage.steps is not None and stage.steps.section == section]
        if settings is not None and largest and max(largest) > settings.tokens_per_pack:
            found.append(
                f"the longest row has {max(largest)} tokens, more than {section}.tokens_per_pack "
                f"({settings.tokens_per_pack}): it is a pack of its own"
            )
    if config.reference.model is not None:
        found.append("the reference is assumed to cost as much as the policy")
    if config.rlhf is not None:
        found.append(
            "rlhf: sampling is timed with seralign's sampler, and TRL's is slower; the time of scorers and judges that "
            "are no reward models is not counted"
        )
    if config.evaluation.scorer is not None:
        found.append("the time of evaluation.scorer is not counted")
    if config.evaluation.judge is not None:
        found.append("the time of evaluation.judge is not counted")
    for section, settings in sampled_sections(config).items():
        if settings.engine != LOCAL:
            found.append(f"the time of {section}.engine, {settings.engine}, is not counted")
    if refused:
        found.append("nothing was timed: the weights alone are too large")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores:
        found.append(f"the processors are shared (load {load:.1f} on {cores}): without other work it will be faster")
    if done:
        found.append(f"{len(done)} stages are done; their time is not in the total")
    return found

"""What a run cost, in tokens, from its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from seralign.config import RunConfig
from seralign.runs import Run
from seralign.runs.files import read_table
from seralign.runs.layout import (
    CANDIDATES,
    CHOSEN_LENGTH,
    METRICS,
    REJECTED_LENGTH,
    SAMPLE,
    STEP,
    round_name,
    round_stage,
    training,
)
from seralign.studies.figures import CostFigures, RewardStep


def run_cost(run: Run, config: RunConfig, curve: Sequence[RewardStep], seconds: float) -> CostFigures:
    """The tokens of the responses that a run sampled and trained on.

    Args:
        run: A finished run.
        config: Its configuration.
        curve: The lines of metrics of a training on a reward.
        seconds: Of processor time, that the run took.
    """
    if config.rlhf is not None:
        each = config.training.batch_size * config.rlhf.responses
        steps = [0, *(line.step for line in curve)]
        sampled = sum(
            (after - before) * each * line.length for (before, after), line in zip(pairwise(steps), curve, strict=True)
        )
        return CostFigures(seconds, sampled, sampled * config.rlhf.updates_per_step)
    rounds = range(1, config.rounds + 1)
    trained = [_trained(run, number, config.training.batch_size) for number in rounds]
    known = [count for count in trained if count is not None]
    return CostFigures(
        seconds, sum(_sampled(run, number) for number in rounds), sum(known) if len(known) == len(trained) else None
    )


def _sampled(run: Run, number: int) -> int:
    stage = round_stage(number, SAMPLE)
    if not run.exists(stage):
        return 0
    return sum(map(len, read_table(run.path(stage, CANDIDATES))["ids"].to_pylist()))


def _trained(run: Run, number: int, batch_size: int) -> float | None:
    """Of pairs, from the mean lengths in the lines of metrics; None for other forms of preference."""
    if not run.exists(training(round_name(number))):
        return 0.0
    text = run.path(training(round_name(number)), METRICS).read_text(encoding="utf-8")
    lines = [line for line in map(json.loads, text.splitlines()) if CHOSEN_LENGTH in line]
    if not lines:
        return None
    steps = [0, *(line[STEP] for line in lines)]
    return sum(
        (after - before) * batch_size * (line[CHOSEN_LENGTH] + line.get(REJECTED_LENGTH, 0.0))
        for (before, after), line in zip(pairwise(steps), lines, strict=True)
    )

"""What a run takes on disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seralign.config import RunConfig
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.plan.estimate import Measured
from seralign.runs import Run
from seralign.runs.layout import AVERAGE, part_of
from seralign.training.arguments import nominal_arguments

# Of a row of the log-probability cache, with what SQLite adds: the policy's name of 100 characters, key, value, seal.
_LOGP_BYTES = 200
# Of a sampled token: its text and its number, compressed. The store of results has them, and the table of the stage.
_TOKEN_BYTES = 2 * 10
# Of a sampled response: its scores, and the verdicts on it.
_RESPONSE_BYTES = 400
# Of a request: SQLite stores what does not fit into its page in pages of its own.
_REQUEST_BYTES = 8192


@dataclass(frozen=True)
class Disk:
    """Bytes that the run's folder will take at most, of which those of one saved policy and of one checkpoint; bytes
    free there."""

    needed: int
    policy: int
    checkpoint: int
    free: int


def needed_disk(run: Run, config: RunConfig, work: Sequence[StageWork], measured: Measured) -> Disk:
    """What the stages of a run that is not begun, or that has some more to do, will write; ``run`` has its data."""
    trainings = [stage.steps for stage in work if stage.steps is not None]
    policy = max((measured.steps[steps.section].saved_bytes for steps in trainings), default=0)
    policies = sum(measured.steps[steps.section].saved_bytes for steps in trainings)
    policies += policy * sum(part_of(stage.name) == AVERAGE for stage in work)
    checkpoint = checkpoints = 0
    for steps in trainings:
        costs, settings = measured.steps[steps.section], config.sft if steps.section == "sft" else config.training
        assert settings is not None
        # An old checkpoint is deleted when the new one is whole.
        kept = nominal_arguments(settings, 1, steps.section).save_total_limit
        saves = min(math.ceil(steps.count / settings.save_steps), (kept or 0) + 1)
        checkpoint = max(checkpoint, costs.saved_bytes + costs.state_bytes)
        checkpoints = max(checkpoints, saves * (costs.saved_bytes + costs.state_bytes))
    tables = sum(path.stat().st_size for path in run.root.rglob("*") if path.is_file())
    there = Path(config.out).absolute()
    while not there.exists():
        there = there.parent
    needed = tables + policies + policy + checkpoints + stored_bytes(config, work)
    return Disk(needed, policy, checkpoint, shutil.disk_usage(there).free)


def stored_bytes(config: RunConfig, work: Sequence[StageWork]) -> int:
    """What stages add to the log-probability cache, where it is in the run's folder, and to the store of results."""
    found = 0 if config.scoring.cache is not None else _LOGP_BYTES * sum(stage.cached for stage in work)
    for sampling in (stage.sampling for stage in work if stage.sampling is not None):
        responses = int(sampling.prompts.sum()) * sampling.samples
        found += responses * (sampling.lengths.longest * _TOKEN_BYTES + _RESPONSE_BYTES)
        found += len(sampling.prompts) * _REQUEST_BYTES
    return found

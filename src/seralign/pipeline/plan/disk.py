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
from seralign.training.arguments import nominal_arguments


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

"""The reward over the steps of a training on it, from its metrics."""

from __future__ import annotations

import json

from seralign.runs import Run
from seralign.runs.layout import METRICS, RLHF_KL, RLHF_LENGTH, RLHF_REWARD, RLHF_TRACKED, STEP, round_name, training
from seralign.studies.figures import RewardStep


def reward_curve(run: Run) -> list[RewardStep]:
    """The lines of metrics of the training of a run."""
    text = run.path(training(round_name(1)), METRICS).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [
        RewardStep(
            step=line[STEP],
            reward=line[RLHF_REWARD],
            tracked={
                key.removeprefix(RLHF_TRACKED): value for key, value in line.items() if key.startswith(RLHF_TRACKED)
            },
            kl=line.get(RLHF_KL),
            length=line[RLHF_LENGTH],
        )
        for line in lines
    ]

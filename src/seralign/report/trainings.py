"""The losses of every training, from ``metrics.jsonl``. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from seralign.report.record import ALONE, TrainingLosses
from seralign.runs.figures import Metrics
from seralign.runs.layout import HELDOUT_PREFIX, LOSS, STEP

# Larger losses are of a training that diverged; their exponentials say nothing.
_LARGEST = 100.0


def is_supervised(training: str, objective: str) -> bool:
    """Whether a training's loss is that of SFT: nats a token, whose exponential is a perplexity."""
    return "sft" in (training, objective)


def training_name(training: str, objective: str) -> str:
    """What a training is called: ``SFT``, ``Round 1``, ..., ``dpo alone, as many steps``."""
    if training == "baseline":
        return f"{objective} {ALONE}"
    return training.upper() if training == "sft" else training.capitalize()


def values(lines: Sequence[Metrics], key: str) -> list[float]:
    """The values of a key, line by line; lines without it, or where it was not finite, are left out."""
    return [value for line in lines if (value := line.get(key)) is not None]


def training_losses(training: Mapping[str, Sequence[Metrics]], objective: str) -> tuple[TrainingLosses, ...]:
    """The losses of each training.

    Args:
        training: Rows of ``metrics.jsonl`` by training.
        objective: Name of the run's objective.
    """
    return tuple(_losses(name, lines, objective) for name, lines in training.items())


def _losses(name: str, lines: Sequence[Metrics], objective: str) -> TrainingLosses:
    trained, heldout = values(lines, LOSS), values(lines, HELDOUT_PREFIX + LOSS)
    known = heldout and is_supervised(name, objective) and heldout[-1] < _LARGEST
    return TrainingLosses(
        name=name,
        title=training_name(name, objective),
        steps=int(max(values(lines, STEP), default=0)),
        first=trained[0] if trained else None,
        last=trained[-1] if trained else None,
        heldout_first=heldout[0] if heldout else None,
        heldout_lowest=min(heldout) if heldout else None,
        heldout_last=heldout[-1] if heldout else None,
        perplexity=math.exp(heldout[-1]) if known else None,
    )

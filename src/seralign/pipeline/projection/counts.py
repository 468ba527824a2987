"""Rows, prompts and steps of the stages of a run, from the sizes of its data."""

from __future__ import annotations

import math
from typing import Any

from seralign.config import RunConfig, SelectionConfig, TrainingConfig
from seralign.pipeline.composing import ComposedPairs
from seralign.pipeline.crossfit import OtherFolds
from seralign.pipeline.projection.data import DataSizes
from seralign.pipeline.replaying import GeneratedPairs
from seralign.pipeline.rows import AllPairs, Demonstrations, WithDemonstrations
from seralign.rewards.pairing import mix


def heldout_pairs(config: RunConfig, data: DataSizes) -> int:
    """Held-out pairs; of a run without pairs, only prompts are held out."""
    pairless = config.generates_all and config.world is None and config.data.pairs is None
    return 0 if pairless and config.data.heldout is None else data.heldout


def training_rows(rows: Any, config: RunConfig, data: DataSizes) -> int:
    """Rows of a training."""
    match rows:
        case WithDemonstrations():
            return training_rows(rows.rows, config, data) + data.demonstrations
        case Demonstrations():
            return data.demonstrations
        case OtherFolds():
            assert config.crossfit is not None
            return round(data.pairs * (1 - 1 / config.crossfit.folds))
        case ComposedPairs():
            return sum(_mix(rows, config, data))
        case GeneratedPairs():
            return _generated(rows.round.index, config, data)
        case AllPairs():
            return data.pairs
        case _:
            return reviewed(config, data) if config.objective.compares else data.demonstrations


def _mix(rows: ComposedPairs, config: RunConfig, data: DataSizes) -> tuple[int, int]:
    total = reviewed(config, data)
    kept = _kept(config.selection, total)
    if rows.round.sample_from is None or config.bootstrap is None:
        return mix(kept, 0, total, 0.0)
    made = _kept(config.bootstrap.selection, prompt_count(config, data))
    return mix(kept, made, total, config.bootstrap.share(rows.round.index))


def _generated(index: int, config: RunConfig, data: DataSizes) -> int:
    """Pairs that a round without offline pairs trains on at most."""
    bootstrap = config.bootstrap
    assert bootstrap is not None
    made = _kept(bootstrap.selection, prompt_count(config, data) * (bootstrap.samples if bootstrap.demonstrated else 1))
    return made * (1 if bootstrap.method == "sapo" else min(index, bootstrap.replay + 1))


def _kept(rule: SelectionConfig, count: int) -> int:
    whole = rule.rule in ("all", "threshold")
    return count if whole else max(1, math.floor(rule.fraction * count + 0.5))


def reviewed(config: RunConfig, data: DataSizes) -> int:
    """Pairs that rounds review: what ``crossfit`` keeps of them."""
    keep = 1.0 if config.crossfit is None else config.crossfit.keep
    return data.pairs if keep == 1.0 else max(1, math.floor(keep * data.pairs + 0.5))


def prompt_count(config: RunConfig, data: DataSizes) -> int:
    """Prompts that a round samples responses to."""
    assert config.bootstrap is not None
    wanted, there = config.bootstrap.prompts, data.demonstrations if config.demonstrated else data.prompts
    return there if wanted is None else min(wanted, there)


def epochs_of(settings: TrainingConfig) -> float:
    """Epochs at most; infinite where ``max_steps`` decides."""
    return math.inf if settings.max_steps is not None else settings.resolved_epochs


def training_steps(settings: TrainingConfig, rows: int) -> int:
    """Optimizer steps of a training on so many rows."""
    if settings.max_steps is not None:
        return settings.max_steps
    return max(1, math.ceil(rows / settings.batch_size * settings.resolved_epochs))

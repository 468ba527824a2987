"""Plans a whole training before it begins: which pairs are computed together, and when.

A *step* is one optimizer step on ``batch_size`` pairs. A *pack* is one forward pass: pairs of similar length within a
token budget. Every step has the same number of packs in every process, so the budget affects only memory. The plan
depends only on lengths and seed, so a resumed training continues exactly where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seralign.config import TrainingConfig
from seralign.data.numbering import Numbering
from seralign.errors import ConfigError, DataError
from seralign.policy.packs import Sizes, fill

# A step that is larger than the data, as in a trial run, may repeat pairs up to so many times.
MOST_REPEATS = 100


@dataclass(frozen=True, slots=True)
class Pack:
    """The rows of one forward pass. A pack with ``counts`` false only keeps processes in step; its loss is zero."""

    rows: np.ndarray
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """All packs in order: by step, within a step by pass, within a pass one for each process."""

    packs: list[Pack]
    steps: int
    accumulation: int
    world_size: int

    def step_of(self, pack: int) -> int:
        """The optimizer step that a pack belongs to."""
        return pack // (self.accumulation * self.world_size)

    def step_rows(self, step: int) -> np.ndarray:
        """Rows of a step, over all its packs."""
        size = self.accumulation * self.world_size
        return np.concatenate([pack.rows for pack in self.packs[step * size : (step + 1) * size] if pack.counts])


def plan_training(
    sizes: Sizes,
    config: TrainingConfig,
    seed: int,
    *,
    packed_length: int,
    world_size: int = 1,
    section: str = "training",
) -> Plan:
    """Plan a training.

    Args:
        sizes: Sizes of the rows of the table.
        config: Batch size, token budget, epochs or steps.
        seed: Seed of the order.
        packed_length: Length of the longest sequence that the model takes in packed rows.
        world_size: Number of processes.
        section: The section of ``config`` in the configuration of the run.

    Raises:
        ConfigError: a step has fewer pairs than there are processes, or ``epochs`` is less than one pair.
        DataError: there are no pairs.
    """
    if not len(sizes):
        raise DataError("there are no pairs to train on")
    order = _order(len(sizes), config, seed, section)
    step_rows = _steps(order, config)
    if min(len(rows) for rows in step_rows) < world_size:
        raise ConfigError(
            f"{section}.batch_size: a step of {min(len(rows) for rows in step_rows)} pairs cannot be divided among "
            f"{world_size} processes; set at least {world_size}, and use at least as many pairs"
        )
    packed = [[Pack(part) for part in fill(rows, sizes, config.tokens_per_pack, packed_length)] for rows in step_rows]
    accumulation = max(math.ceil(len(packs) / world_size) for packs in packed)
    packs = [pack for step in packed for pack in _split_to(step, accumulation * world_size)]
    return Plan(packs, len(step_rows), accumulation, world_size)


def response_packs(packs: Sequence[Pack], numbering: Numbering) -> list[np.ndarray]:
    """The numbers of the responses of each pack, in the order in which a pack has them."""
    return [numbering.of_rows(pack.rows) for pack in packs]


def count_steps(count: int, config: TrainingConfig, section: str) -> int:
    """Optimizer steps of a training on ``count`` pairs.

    Raises:
        ConfigError: ``epochs`` is less than one pair.
    """
    return config.max_steps or math.ceil(_wanted(count, config, section) / config.batch_size)


def check_step(config: TrainingConfig, count: int, section: str) -> None:
    """Refuse steps that would repeat ``count`` pairs over and over.

    Raises:
        ConfigError: with ``max_steps``, a step has each pair more than ``MOST_REPEATS`` times.
    """
    if config.max_steps and count and config.batch_size > MOST_REPEATS * count:
        raise ConfigError(
            f"{section}.batch_size: a step of {config.batch_size} pairs is larger than the data of {count} pairs, and "
            f"{section}.max_steps would repeat each {config.batch_size // count} times a step; set at most {count}"
        )


def _wanted(count: int, config: TrainingConfig, section: str) -> int:
    wanted = config.max_steps * config.batch_size if config.max_steps else round(config.resolved_epochs * count)
    if not wanted:
        raise ConfigError(f"{section}.epochs: {config.epochs} of {count} pairs is less than one pair; set more")
    return wanted


def _order(count: int, config: TrainingConfig, seed: int, section: str) -> np.ndarray:
    wanted = _wanted(count, config, section)
    epochs = [np.random.default_rng([seed, epoch]).permutation(count) for epoch in range(math.ceil(wanted / count))]
    return np.concatenate(epochs)[:wanted]


def _steps(order: np.ndarray, config: TrainingConfig) -> list[np.ndarray]:
    # Steps of equal size instead of a short last one: no pair is left out, and no step has a noisier gradient.
    return np.array_split(order, config.max_steps or math.ceil(len(order) / config.batch_size))


def _split_to(packs: list[Pack], count: int) -> list[Pack]:
    packs = list(packs)
    while len(packs) < count:
        largest = max(range(len(packs)), key=lambda at: len(packs[at].rows))
        rows = packs[largest].rows
        if len(rows) == 1:
            return packs + [Pack(packs[-1].rows, counts=False)] * (count - len(packs))
        half = len(rows) // 2
        packs[largest : largest + 1] = [Pack(rows[:half]), Pack(rows[half:])]
    return packs

"""Helpers for runs with several processes (``torchrun``, ``accelerate launch``).

Every process runs every stage. Only the first process writes to the folder of the run.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")

# The other processes wait while the first one tokenizes the data or hashes a model. The default timeouts of 10 (NCCL)
# and 30 (gloo) minutes are too short for this.
PATIENCE = timedelta(days=1)


def start() -> None:
    """Join the process group that the launcher announced, if there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState(timeout=PATIENCE)


def rank() -> int:
    """Index of this process."""
    return dist.get_rank() if _active() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _active() else 1


def is_main() -> bool:
    """Whether this process writes to the folder of the run."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    if _active():
        dist.barrier()


def broadcast(value: T) -> T:
    """The value of the main process, in every process."""
    if not _active():
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: T) -> list[T]:
    """The values of all processes by rank, in every process."""
    if not _active():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def _active() -> bool:
    return dist.is_available() and dist.is_initialized()

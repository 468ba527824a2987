"""Helpers for runs with several processes (``torchrun``, ``accelerate launch``).

Every process runs every stage. Only the first process writes to the folder of the run.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any, TypeVar

from seralign.errors import PeerError

T = TypeVar("T")

# The other processes wait while the first one tokenizes the data or hashes a model. The default timeouts of 10 (NCCL)
# and 30 (gloo) minutes are too short for this.
PATIENCE = timedelta(days=1)
# Of gloo, whose errors are plain RuntimeErrors.
_GONE = re.compile(r"gloo/transport|Connection (closed|reset) by peer")


def start() -> None:
    """Join the process group that the launcher announced, if there is one."""
    if announced() > 1:
        import torch
        from accelerate import PartialState

        # By default, accelerate makes no group of processes without GPUs.
        PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)


def announced() -> int:
    """Number of processes that a launcher has started, whether or not they are a group yet."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def announced_rank() -> int:
    """Index of this process among those that a launcher has started."""
    return int(os.environ.get("RANK", "0"))


def rank() -> int:
    """Index of this process."""
    dist = _active()
    return dist.get_rank() if dist else 0


def world_size() -> int:
    """Number of processes."""
    dist = _active()
    return dist.get_world_size() if dist else 1


def is_main() -> bool:
    """Whether this process writes to the folder of the run."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    if dist := _active():
        dist.barrier()


def broadcast(value: T) -> T:
    """The value of the main process, in every process."""
    dist = _active()
    if not dist:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: T) -> list[T]:
    """The values of all processes by rank, in every process."""
    dist = _active()
    if not dist:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def peer_errors() -> Iterator[None]:
    """Report it as one error if the work of this block fails because another process has ended.

    Raises:
        PeerError: another process has ended, with an error or by a signal.
    """
    try:
        yield
    except RuntimeError as error:
        dist = _active()
        if dist is None or not (isinstance(error, dist.DistError) or _GONE.search(str(error))):
            raise
        raise PeerError(
            "another process of this run has ended, by an error of its own or by a signal; its message is above, or in "
            "the log of its machine. Finished work is kept: give the same command again"
        ) from None


def _active() -> ModuleType | None:
    """``torch.distributed``, if this process is in a group. Torch is not loaded to find out that it is in none."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None

"""Several processes that work together through gloo, each a fork, which has everything imported."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accelerate.state import AcceleratorState
from harms import forked

from seralign.servers.process import free_port


@dataclass(frozen=True)
class Ended:
    """The exit code of a process, None if it was too late; when it ended, in seconds; and what it wrote."""

    code: int | None
    at: float
    said: str


def in_processes(count: int, work: Callable[[int], int], folder: Path, seconds: float) -> list[Ended]:
    """How ``work(rank)`` ended, by process.

    Args:
        count: How many processes.
        work: What each of them does.
        folder: For their outputs.
        seconds: How long they may take; what is left then is killed.
    """
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}

    def member(rank: int) -> int:
        os.environ.update(address | sizes | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        AcceleratorState._reset_state(reset_partial_state=True)
        return work(rank)

    outputs = [folder / f"said-{rank}" for rank in range(count)]
    children = [forked(lambda rank=rank: member(rank), said) for rank, said in enumerate(outputs)]
    codes: dict[int, tuple[int, float]] = {}
    until = time.monotonic() + seconds
    while len(codes) < count and time.monotonic() < until:
        for child in set(children) - codes.keys():
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status), time.monotonic()
        time.sleep(0.02)
    for child in set(children) - codes.keys():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    late = (None, time.monotonic())
    return [Ended(*codes.get(child, late), said.read_text()) for child, said in zip(children, outputs, strict=True)]

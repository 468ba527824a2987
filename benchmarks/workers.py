"""The two sides of a benchmark, each in a process of its own that waits until it is asked.

Both are alive throughout, so that they alternate in one run, and only one computes at a time. A process of its own
makes the peak memory that of one side alone: its libraries, model, data and work.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Actions = Mapping[str, Callable[..., Any]]


class Worker:
    """One side. ``make(job)`` runs in the new process and returns what can be asked for, by name.

    Args:
        make: A function of a module, so that the new process can import it.
        job: Its argument; it is pickled.
        threads: Processor threads of the process.
    """

    def __init__(self, make: Callable[[Any], Actions], job: Any, threads: int) -> None:
        pin(threads)  # the new process inherits the environment, which OpenMP reads once
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, job, threads), daemon=True)
        self._process.start()
        theirs.close()
        self.peak_mb = 0.0

    def ask(self, action: str, *args: Any) -> Any:
        """Let the side do one thing, and wait for its result; ``peak_mb`` is its peak memory so far, as
        ``device_peak_mb``.

        Raises:
            RuntimeError: it failed; the message has its traceback.
        """
        try:
            self._pipe.send((action, args))
            failure, value, self.peak_mb = self._pipe.recv()
        except (EOFError, BrokenPipeError):
            self._process.join()
            raise RuntimeError(f"the process ended with exit code {self._process.exitcode}") from None
        if failure:
            raise RuntimeError(failure)
        return value

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join()


def pin(threads: int) -> None:
    """The environment of processes that compute with ``threads`` threads, offline and without progress bars."""
    os.environ |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def peak_memory_mb() -> float:
    """Peak resident memory of this process, in MiB.

    Linux's ``ru_maxrss`` survives exec, so that a child starts with its parent's peak; ``VmHWM`` does not.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def device_peak_mb() -> float:
    """Peak memory of this process in MiB: what torch allocated on the GPU, or resident memory where there is none."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak_memory_mb()


def _serve(pipe: Connection, make: Callable[[Any], Actions], job: Any, threads: int) -> None:
    import torch

    actions: Actions = {}
    failure = ""
    try:
        torch.set_num_threads(threads)
        actions = make(job)
    except Exception:
        failure = traceback.format_exc()
    while True:
        try:
            action, args = pipe.recv()
        except EOFError:
            return
        value = None
        if not failure:
            try:
                value = actions[action](*args)
            except Exception:
                failure = traceback.format_exc()
        gc.collect()  # a trainer's cycles would otherwise be counted in the next repetition's peak
        torch.cuda.empty_cache()  # nothing without a GPU; with one, the other side needs the memory in its turn
        pipe.send((failure, value, device_peak_mb()))

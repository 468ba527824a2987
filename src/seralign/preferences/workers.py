"""Checks in worker processes: a worker that hangs or ends is started again without the response that it was at."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from seralign.errors import SeralignError, brief
from seralign.preferences.config import LimitsConfig, Titled
from seralign.preferences.evaluating import CLOCK, Answer, Failed, Ready, Setup, Work
from seralign.preferences.groups import Group
from seralign.preferences.signals import Check

MODULE = "seralign.preferences.worker"
GRACE = 2.0
"""Seconds beyond a signal's own limit after which its worker is ended."""
_POLL = 0.2
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Chunk:
    """Groups that are evaluated and stored together. ``number``: their place among the chunks of the source."""

    number: int
    groups: tuple[Group, ...]


@dataclass
class Pool:
    """Worker processes for the signals of a labelling. Use as a context manager, which ends them.

    ``network``: whether checks can use the network, once the first worker has started.
    """

    signals: tuple[Titled, ...]
    limits: LimitsConfig
    network: bool = True
    _workers: list[_Worker] = field(default_factory=list)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()

    def evaluate(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Answer]]]:
        """The opinions on the groups of each chunk, in any order of the chunks.

        Raises:
            SeralignError: A worker cannot be started, or a row or setting is wrong.
        """
        size = self.limits.processes or _cores()
        waiting = iter(chunks)
        idle, busy = list(self._workers), list[_Worker]()
        while True:
            while len(busy) < size and (chunk := next(waiting, None)) is not None:
                busy.append(idle.pop() if idle else self._started())
                busy[-1].give(chunk)
            if not busy:
                return
            ready = set(wait([worker.pipe for worker in busy], _POLL))
            for worker in list(busy):
                if worker.pipe in ready:
                    worker.take()
                worker.check_clock()
                if len(worker.answers) == len(worker.chunk.groups):
                    busy.remove(worker)
                    idle.append(worker)
                    yield worker.chunk, worker.answers

    def _started(self) -> _Worker:
        worker = _Worker(Setup(self.signals, self.limits.memory_mb, self.limits.network))
        self._workers.append(worker)
        worker.start()
        self.network = worker.network
        return worker


class _Worker:
    """A process, and the chunk that it works on."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.network = setup, True
        self.chunk = Chunk(0, ())
        self.answers: list[Answer] = []
        self._skipped: dict[tuple[int, int], str] = {}
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed by stop
        self._file.truncate(CLOCK.size)
        self._clock = mmap.mmap(self._file.fileno(), CLOCK.size)
        self._seen: tuple[int, float] = (0, time.monotonic())
        self._process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection

    def start(self) -> None:
        """Start the process and wait until it is ready.

        Raises:
            SeralignError: It cannot be started.
        """
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(Path.cwd())])}
        environment |= {"USE_TORCH": "0", "OMP_NUM_THREADS": "1"}
        self.pipe, theirs = Pipe()
        CLOCK.pack_into(self._clock, 0, 0, -1, -1)
        try:
            with contextlib.closing(theirs):
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), str(self._file.fileno())],
                    pass_fds=[theirs.fileno(), self._file.fileno()],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            self.pipe.send(self.setup)
            if not self.pipe.poll(_START_SECONDS):
                raise SeralignError(f"a process for checks has not started within {_START_SECONDS:g} s")
            ready = self.pipe.recv()
        except (EOFError, OSError) as error:
            said = b"" if self._process is None else self._process.communicate()[1]
            last = said.decode(errors="replace").strip().rpartition("\n")[2] or brief(error)
            raise SeralignError(f"a process for checks cannot be started: {last}") from None
        assert isinstance(ready, Ready)
        self.network = ready.network

    def give(self, chunk: Chunk) -> None:
        """Begin with a chunk."""
        self.chunk, self.answers, self._skipped = chunk, [], {}
        self._send(chunk.groups)

    def take(self) -> None:
        """Read the answers that are there.

        Raises:
            SeralignError: A row or a setting is wrong.
        """
        try:
            while self.pipe.poll():
                self._receive()
        except (EOFError, ConnectionError):
            self._again(None)

    def check_clock(self) -> None:
        """End the process if it has been at one response for too long, and start it again."""
        count, signal_number, _ = CLOCK.unpack_from(self._clock)
        now = time.monotonic()
        if count != self._seen[0] or signal_number < 0:
            self._seen = (count, now)
            return
        check = self.setup.signals[signal_number].signal
        if isinstance(check, Check) and now - self._seen[1] > check.seconds + GRACE:
            self._again(f"the check took longer than {check.seconds:g} s")

    def stop(self) -> None:
        """End the process and all that it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
            self.pipe.close()
            self._process = None
        if not self._clock.closed:
            self._clock.close()
            self._file.close()

    def _receive(self) -> None:
        answer = self.pipe.recv()
        if isinstance(answer, Failed):
            raise answer.error
        self.answers.append(answer)
        self._skipped = {}

    def _send(self, groups: Sequence[Group]) -> None:
        first, *rest = groups
        self._seen = (0, time.monotonic())
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send([Work(first, self._skipped), *(Work(group, {}) for group in rest)])

    def _again(self, why: str | None) -> None:
        """Start again after a response that ended the process or took too long, without it."""
        process = self._process
        assert process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        # What it sent before its end is whole but for the last message.
        with contextlib.suppress(EOFError, OSError):
            while self.pipe.poll():
                self._receive()
        left = self.chunk.groups[len(self.answers) :]
        _, signal_number, index = CLOCK.unpack_from(self._clock)
        if process.stderr is not None:
            process.stderr.close()
        self.pipe.close()
        if signal_number >= 0:
            skipped = {(signal_number, index): why or f"the check ended its process ({_ending(code)})"}
            self._skipped |= skipped
        elif left and why is None:
            raise SeralignError(f"a process for checks ended ({_ending(code)}) while no check was running")
        self.start()
        if left:
            self._send(left)


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

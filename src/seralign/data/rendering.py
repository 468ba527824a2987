"""Runs chat templates in a separate process with limited memory and time.

A template is a program that comes with a model. transformers' sandbox isolates it from everything outside, but it can
still loop forever or fill the memory. Each process has one worker, which imports neither torch nor a model.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from seralign.data.content import Chat, Inputs
from seralign.errors import SeralignError, brief

CPU_SECONDS = 5
"""Processor time that a template may take for one row."""
MEMORY_MEGABYTES = 1024
"""Memory that a template may use."""
WORKER = "seralign.data.rendering_worker"
CHARACTERS = 2**24
"""Longest text that a template may write."""
_NOT_STARTED = "cannot start the process that runs chat templates"


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template's source, and the tokenizer's special tokens by name."""

    source: str
    special: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A template's input for one row: the messages of the prompt, and the message of each answer."""

    prompt: Chat
    answers: tuple[Chat, ...]
    inputs: Inputs


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of a prompt and of each response, and notes on them."""

    prompt: str
    responses: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The template writes only a part of an answer; holds the reason to drop the row."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The template cannot render a row; holds the reason."""

    why: str


class TemplateRefusal(Exception):
    """Raised if the template cannot render a row; becomes ``Refused``."""


Result = Rendered | LeftOut | Refused


def render_apart(template: Template, conversations: Sequence[Conversation]) -> list[Result]:
    """Render conversations in the worker process, in order.

    A row that runs out of time or memory ends the list: later rows are not rendered.

    Raises:
        SeralignError: The process cannot be started.
    """
    return _worker().render(template, conversations)


@dataclass(slots=True)
class _Worker:
    """The worker process. It is started on first use, and again if a template made it exit."""

    cpu_seconds: int = CPU_SECONDS
    lock: threading.Lock = field(default_factory=threading.Lock)
    process: subprocess.Popen[bytes] | None = None
    pipe: Connection | None = None

    def render(self, template: Template, conversations: Sequence[Conversation]) -> list[Result]:
        with self.lock:
            results: list[Result] = []
            pipe = self._pipe()
            try:
                pipe.send((template, list(conversations)))
                results.extend(pipe.recv() for _ in conversations)
            except (EOFError, OSError):
                results = [*results, Refused(self._end())]
            except BaseException:
                # The pipe may hold half a reply, which the next request must not read.
                self.stop()
                raise
            return results

    def _pipe(self) -> Connection:
        if self.pipe is None or self.process is None or self.process.poll() is not None:
            self.stop()
            try:
                self._start()
            except BaseException:
                self.stop()
                raise
            assert self.pipe is not None
        return self.pipe

    def _start(self) -> None:
        """Start the worker and wait until its imports are done."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        environment |= {"USE_TORCH": "0", "USE_TF": "0", "USE_FLAX": "0", "OMP_NUM_THREADS": "1"}
        try:
            self.pipe, theirs = Pipe()
            with contextlib.closing(theirs):
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", WORKER, str(theirs.fileno()), str(self.cpu_seconds)],
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
        except OSError as error:
            raise SeralignError(f"{_NOT_STARTED}: {brief(error)}") from None
        try:
            self.pipe.recv()
        except (EOFError, OSError):
            _, said = self.process.communicate()
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            why = ": ".join(part for part in (_ending(self.process.returncode), last) if part)
            raise SeralignError(f"{_NOT_STARTED}: {why}") from None

    def _end(self) -> str:
        """Why the worker exited."""
        process = self.process
        code = process.wait(timeout=60) if process else 0
        self.stop()
        if code == -signal.SIGXCPU:
            return f"it takes more than {self.cpu_seconds} s of processor time for one row"
        return f"its process ended: {_ending(code)}"

    def stop(self) -> None:
        if self.pipe is not None:
            self.pipe.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stderr is not None:
                self.process.stderr.close()
        self.process = self.pipe = None


def _ending(code: int) -> str:
    """How a process ended, for a message."""
    if code >= 0:
        return f"exit code {code}"
    hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{hint}"


@cache
def _worker() -> _Worker:
    worker = _Worker()
    atexit.register(worker.stop)
    return worker


# A forked process gets its own worker. Two processes on one pipe would receive each other's replies.
os.register_at_fork(after_in_child=_worker.cache_clear)


def requests(pipe: Connection) -> Iterator[tuple[Template, list[Conversation]]]:
    """The requests from a pipe, until its other end is closed."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            yield pipe.recv()

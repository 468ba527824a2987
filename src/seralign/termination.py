"""SIGTERM, which schedulers send before they kill a process: work ends where it can be resumed.

A command ends at once, since finished work is kept. A training ends after the step that it is in, with a checkpoint.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

CODE = 128 + signal.SIGTERM
"""Exit code of a command that SIGTERM ended."""


class Terminated(KeyboardInterrupt):
    """SIGTERM was received. What ends an interrupted command in good order also ends this one."""


@dataclass
class Request:
    """Whether SIGTERM was received in a block that ends by itself."""

    made: bool = False


_deferred: list[Request] = []


@contextmanager
def terminable() -> Iterator[None]:
    """Raise ``Terminated`` in this block when SIGTERM is received. Nothing changes outside of the main thread, or where
    the program that calls has a handler of its own."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not ours:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def deferred() -> Iterator[Request]:
    """Only note the first SIGTERM in this block, which then ends by itself. A second one raises ``Terminated``."""
    request = Request()
    _deferred.append(request)
    try:
        yield request
    finally:
        _deferred.remove(request)


def _terminate(number: int, frame: FrameType | None) -> None:
    if _deferred and not _deferred[-1].made:
        _deferred[-1].made = True
    else:
        raise Terminated


def _default_in_child() -> None:
    if signal.getsignal(signal.SIGTERM) is _terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# A forked process is ended by the one that made it, and must not answer in its place.
os.register_at_fork(after_in_child=_default_in_child)

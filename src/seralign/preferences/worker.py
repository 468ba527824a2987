"""The process in which checks run: ``python -m seralign.preferences.worker PIPE CLOCK``."""

from __future__ import annotations

import mmap
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from seralign.preferences import sandbox
from seralign.preferences.evaluating import CLOCK, Ready, Setup, answer
from seralign.preferences.signals import Function


def main(arguments: list[str]) -> None:
    """Answer requests until the other end of the pipe is closed."""
    pipe, clock = Connection(int(arguments[0])), mmap.mmap(int(arguments[1]), CLOCK.size)
    setup: Setup = pipe.recv()
    sandbox.adopt_orphans()
    network = setup.network or not sandbox.cut_network()
    for one in setup.signals:
        if isinstance(one.signal, Function):
            one.signal.load()
    sandbox.limit_memory(setup.memory_mb)
    # Until here the main process reads errors; nobody would empty that pipe later.
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), sys.stderr.fileno())
    pipe.send(Ready(network))
    try:
        while True:
            for work in pipe.recv():
                pipe.send(answer(setup.signals, work, clock))
    except (EOFError, ConnectionError):
        return


if __name__ == "__main__":
    main(sys.argv[1:])

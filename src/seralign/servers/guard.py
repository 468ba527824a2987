"""Runs a command, and ends it with everything that it started as soon as this program's standard input closes.

The parent holds the other end of the standard input. It closes when the parent dies, however that happens, so no server
is left behind. Run as ``python guard.py SECONDS COMMAND...``; the exit status is that of the command.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Run the command until it ends or the standard input closes. It has ``SECONDS`` to end by itself."""
    grace, command = float(arguments[0]), arguments[1:]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_end_with_parent)
    threading.Thread(target=_watch, args=(child, grace), daemon=True).start()
    code = child.wait()
    _signal(child.pid, signal.SIGKILL)  # what the command left behind
    return code if code >= 0 else 128 - code


def _watch(child: subprocess.Popen[bytes], grace: float) -> None:
    while os.read(0, 4096):
        pass
    _signal(child.pid, signal.SIGTERM)
    until = time.monotonic() + grace
    while time.monotonic() < until and child.returncode is None:
        time.sleep(0.05)
    _signal(child.pid, signal.SIGKILL)


def _end_with_parent() -> None:
    """If this program itself is killed, the command is asked to end. Only Linux has this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Programs with limits: time, memory, output, processes; and without a network where the system allows it.

This keeps a faulty program from harming a labelling. It is no protection from a hostile one, which can read and write
the user's files.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OUTPUT_BYTES = 2**20
"""Most that a program may write to standard output and standard error together."""
PROCESSES = 64
"""Most processes that a program may have at a time."""
FILE_BYTES = 2**28
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended. ``why``: why it was ended; None if it ended by itself, with ``code``."""

    code: int
    output: bytes
    why: str | None = None


def cut_network() -> bool:
    """Take the network from this process and those that it starts; false where the system does not allow it.

    The process must have one thread. It gets a network of its own in which nothing can be reached.
    """
    libc = _libc()
    if libc is None:
        return False
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNET) == 0:
        return True
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    return True


def adopt_orphans() -> None:
    """Have processes whose parent ends become children of this one, so that ``run`` can end them; and have this one
    ended with its own parent."""
    libc = _libc()
    if libc is not None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def limit_memory(megabytes: int) -> None:
    """Allow this process so much memory beyond what it has now, and no core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    now = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize() if statm.exists() else 0
    _lower(resource.RLIMIT_AS, now + megabytes * 2**20)


def run(
    command: Sequence[str],
    given: bytes,
    seconds: float,
    memory_mb: int,
    folder: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run a program. When it ends, or goes beyond a limit, it and all processes that it started are killed.

    Args:
        command: The program and its arguments.
        given: Its standard input.
        seconds: Most time.
        memory_mb: Most memory of each of its processes.
        folder: Its working folder. Default: the current one.
        environment: Its environment variables. Default: those of this process.

    Raises:
        OSError: It cannot be started.
    """
    others = set(_children())
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
        start_new_session=True,
        preexec_fn=_limits(seconds, memory_mb),
    )
    try:
        deadline = time.monotonic() + seconds
        output, why = _talk(process, given, deadline, seconds)
        if why is None:
            why = _wait(process, deadline, seconds)
    finally:
        _end(process, others)
    return Ran(process.returncode, output, why)


def _talk(process: subprocess.Popen[bytes], given: bytes, deadline: float, seconds: float) -> tuple[bytes, str | None]:
    """Write the input and read the output, until the output is closed; what was read, and the limit that was passed."""
    assert process.stdin is not None
    assert process.stdout is not None
    output, left, watched = bytearray(), memoryview(given), time.monotonic() + _POLL
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        while process.stdout in [key.fileobj for key in selector.get_map().values()]:
            now = time.monotonic()
            if now > deadline:
                return bytes(output), f"took longer than {seconds:g} s"
            if now > watched:
                watched = now + _POLL
                if _group_size(process.pid) > PROCESSES:
                    return bytes(output), f"started more than {PROCESSES} processes"
            for key, _ in selector.select(min(_POLL, deadline - now)):
                if key.fileobj is process.stdout:
                    read = os.read(process.stdout.fileno(), 65536)
                    output += read
                    if len(output) > OUTPUT_BYTES:
                        return bytes(output[:OUTPUT_BYTES]), f"wrote more than {OUTPUT_BYTES:,} bytes"
                    if not read:
                        selector.unregister(process.stdout)
                    continue
                try:
                    left = left[os.write(process.stdin.fileno(), left[:65536]) :] if left else left
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    left = memoryview(b"")
                if not left:
                    selector.unregister(process.stdin)
                    with contextlib.suppress(BrokenPipeError):
                        process.stdin.close()
            if process.poll() is not None and not selector.select(0):
                # A process that it left behind may hold the pipe open.
                break
    return bytes(output), None


def _wait(process: subprocess.Popen[bytes], deadline: float, seconds: float) -> str | None:
    """Wait for a program that has closed its output."""
    while process.poll() is None:
        if time.monotonic() > deadline:
            return f"took longer than {seconds:g} s"
        if _group_size(process.pid) > PROCESSES:
            return f"started more than {PROCESSES} processes"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(_POLL, max(0.0, deadline - time.monotonic())))
    return None


def _end(process: subprocess.Popen[bytes], others: set[int]) -> None:
    """Kill a program and all that it started, also processes that have left its group; ``others`` are not touched."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    while orphans := [pid for pid in _children() if pid not in others]:
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in orphans:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(pid) for pid in text.split()]


def _group_size(group: int) -> int:
    """How many processes belong to the session of a program."""
    count = 0
    for entry in os.scandir("/proc") if Path("/proc").is_dir() else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = Path(f"/proc/{entry.name}/stat").read_text(encoding="utf-8", errors="replace")
                count += int(stat.rpartition(")")[2].split()[3]) == group
    return count


def _limits(seconds: float, memory_mb: int) -> Callable[[], None]:
    """What the new process does before it becomes the program."""
    libc, cpu = _libc(), int(seconds) + 2

    def apply() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _lower(resource.RLIMIT_AS, memory_mb * 2**20)
        _lower(resource.RLIMIT_CPU, cpu)
        _lower(resource.RLIMIT_FSIZE, FILE_BYTES)

    return apply


def _lower(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (limit if hard < 0 else min(limit, hard), hard))


def _libc() -> ctypes.CDLL | None:
    """The C library on Linux; None elsewhere."""
    return ctypes.CDLL(None, use_errno=True) if os.uname().sysname == "Linux" else None

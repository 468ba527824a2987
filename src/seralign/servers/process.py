"""A server in a process of its own: started, waited for, and stopped with everything that it started."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from seralign.errors import ConfigError
from seralign.servers import guard

_POLL = 0.2
# Seconds between asking a server to end and killing it.
_GRACE = 10.0
_LINES, _CHARACTERS = 12, 2000
_ERROR = re.compile(r"\b(ERROR|CRITICAL|[A-Z]\w*(Error|Exception)\b)")


class EndedEarly(ConfigError):
    """A server ended before it was ready. The last line of the message is the last error of its output."""


@dataclass(frozen=True)
class Launch:
    """How a server is started.

    Args:
        name: Name of the server, for messages.
        command: Program and arguments.
        health: Address that answers with status 200 as soon as the server is ready.
        environment: Environment variables that are added to those of this process.
        without: Environment variables of this process that the server does not get.
        wait: Seconds until it must be ready.
        log: File for the server's output. Default: a temporary file.
    """

    name: str
    command: Sequence[str]
    health: str
    environment: Mapping[str, str] = field(default_factory=dict)
    without: Sequence[str] = ()
    wait: float = 600.0
    log: Path | None = None


@dataclass(frozen=True)
class Running:
    """A server that is ready. ``pid``: of the process that watches it; it ends when the server does."""

    launch: Launch
    pid: int
    log: Path
    _process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def says(self) -> str:
        """The last lines of its output."""
        return last_lines(self.log)


@contextmanager
def running(launch: Launch, key: str) -> Iterator[Running]:
    """Start a server, wait until it is ready, and stop it at the end of the context.

    The server is asked to end, and killed after ten seconds. It also ends when this process dies in any way. Its output
    goes to ``launch.log``.

    Args:
        launch: The server.
        key: The configuration key that names it, for messages.

    Raises:
        EndedEarly: it ends before it is ready; with the end of its output.
        ConfigError: it is not ready in time; with the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="seralign-server-") as folder:
        log = launch.log or Path(folder) / "server.log"
        with log.open("ab") as output:
            process = _start(launch, output.fileno())
        found = Running(launch, process.pid, log, process)
        try:
            _wait(found, key)
            yield found
        finally:
            _stop(process)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def last_lines(log: Path) -> str:
    """The last lines of a log, up to its last error if it has one: what a server says while it ends is of less use."""
    try:
        text = log.read_bytes()[-64 * 1024 :].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    last = next((at for at in reversed(range(len(lines))) if _ERROR.search(lines[at])), len(lines) - 1)
    return "\n".join(lines[: last + 1][-_LINES:])[-_CHARACTERS:]


def is_ready(address: str) -> bool:
    """Whether an address answers with status 200. Proxies are not used."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=2.0)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _start(launch: Launch, output: int) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C in a terminal reaches this process alone, which then stops the server.
    return subprocess.Popen(
        [sys.executable, guard.__file__, str(_GRACE), *launch.command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if name not in launch.without}
        | dict(launch.environment),
        start_new_session=True,
    )


def _wait(server: Running, key: str) -> None:
    name, until = server.launch.name, time.monotonic() + server.launch.wait
    while not is_ready(server.launch.health):
        if not server.alive:
            code = server._process.returncode
            raise EndedEarly(f"{key}: {name} ended with status {code} before it was ready; it says:\n{server.says()}")
        if time.monotonic() > until:
            raise ConfigError(
                f"{key}: {name} was not ready within {server.launch.wait:g} s; its output ends with:\n{server.says()}"
            )
        time.sleep(_POLL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_GRACE + 5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

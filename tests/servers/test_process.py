"""Servers as processes: started, waited for, stopped with all that they started, ended with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from seralign.errors import ConfigError
from seralign.servers.process import Launch, free_port, is_ready, last_lines, running

# Serves its own process id and that of a child. The child ignores requests to end, as workers of servers may.
SERVER = """
import http.server, os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
                          "time.sleep(600)"])
print("serving with", os.environ.get("TOLD"), flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(f"{os.getpid()} {child.pid}".encode())

    def log_message(self, *arguments):
        pass

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def launch(code: str = SERVER, **settings: object) -> Launch:
    port = free_port()
    command = [sys.executable, "-c", code, str(port)]
    return Launch("the server", command, f"http://127.0.0.1:{port}/health", **{"wait": 20.0, **settings})  # pyright: ignore


def members(address: str) -> list[int]:
    with urlopen(address) as answer:
        return [int(number) for number in answer.read().split()]


def gone(numbers: list[int], within: float = 15.0) -> bool:
    until = time.monotonic() + within
    while any(map(_lives, numbers)):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):  # it may end between the two
        return False


def test_a_server_is_ready_in_the_context_and_gone_after_it(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    given = launch(environment={"TOLD": "a variable"}, log=log)
    with running(given, "key") as server:
        assert server.alive
        assert is_ready(given.health)
        found = members(given.health)
        assert len(found) == 2
        assert all(map(_lives, found))
    assert gone(found, within=0.5), "server and child end before the context does"
    assert not is_ready(given.health)
    assert log.read_text() == "serving with a variable\n"
    with running(given, "key") as again:
        assert again.pid != server.pid
        assert members(given.health) != found


def test_a_server_that_ends_is_an_error_with_what_it_said() -> None:
    code = "import sys; print('loading'); sys.exit('ValueError: no such model')"
    with (
        pytest.raises(ConfigError, match=r"^bootstrap.engine: the server ended with status 1 .*says:\n[^$]*no such m"),
        running(launch(code), "bootstrap.engine"),
    ):
        pass


def test_a_server_that_is_not_ready_in_time_is_stopped() -> None:
    code = "import os, time; print('pid', os.getpid(), flush=True); time.sleep(600)"
    says = r"^k: the server was not ready within 1 s; .*:\npid \d+$"
    with pytest.raises(ConfigError, match=says) as raised, running(launch(code, wait=1.0), "k"):
        pass
    assert gone([int(str(raised.value).split()[-1])])


def test_a_program_that_is_not_there_is_an_error() -> None:
    given = Launch("the server", ["/no/such/program"], "http://127.0.0.1:1/health", wait=20.0)
    with pytest.raises(ConfigError, match=r"(?s)ended with status.*/no/such/program"), running(given, "k"):
        pass


def test_a_server_is_asked_to_end_if_its_watcher_is_killed() -> None:
    given = launch()
    with running(given, "k") as server:
        found = members(given.health)
        os.kill(server.pid, signal.SIGKILL)
        assert gone(found[:1])
        assert not server.alive
    os.kill(found[1], signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_dies_with_its_parent(number: signal.Signals) -> None:
    code = (
        "import test_process, time\n"
        "with test_process.running(test_process.launch(), 'k') as server:\n"
        "    print(*test_process.members(server.launch.health), server.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths}
    )
    assert parent.stdout is not None
    with parent.stdout:
        found = [int(each) for each in parent.stdout.readline().split()]
    assert len(found) == 3
    assert all(map(_lives, found))
    parent.send_signal(number)
    parent.wait()
    assert gone(found), "the server, its child, and what watches them"


def test_the_end_of_a_log_is_short(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log) == ""
    log.write_text("start\nRuntimeError: out of memory\n" + "leaked\n" * 20)
    assert last_lines(log) == "start\nRuntimeError: out of memory"
    log.write_bytes(b"".join(b"line %d\n\n" % number for number in range(100_000)) + b"\xff the end")
    assert last_lines(log).splitlines() == [*(f"line {number}" for number in range(99_989, 100_000)), "\ufffd the end"]

"""Programs beyond their limits are ended, with all that they started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seralign.errors import ConfigError
from seralign.preferences import sandbox
from seralign.preferences.signals.base import Asked, NoValue
from seralign.preferences.signals.command import Command
from seralign.preferences.signals.unit_tests import UnitTests

TESTS = "assert add(2, 3) == 5\nassert add(-1, 1) == 0"


def python(code: str, given: bytes = b"", seconds: float = 20.0, memory_mb: int = 512) -> sandbox.Ran:
    return sandbox.run([sys.executable, "-I", "-S", "-c", code], given, seconds, memory_mb)


def asked(response: str, **row: object) -> Asked:
    return Asked("question", response, row, "raw.jsonl row 7")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False


def test_input_output_and_exit_code() -> None:
    given = b"x" * 300_000
    ran = python("import sys; text = sys.stdin.read(); print(len(text)); sys.exit(7)", given)
    assert (ran.code, ran.output, ran.why) == (7, b"300000\n", None)
    assert python("print(1)", given).output == b"1\n", "input that is not read"


def test_a_program_that_hangs_is_ended() -> None:
    began = time.monotonic()
    assert python("import time; time.sleep(600)", seconds=0.5).why == "took longer than 0.5 s"
    assert python("import os, time; os.close(1); os.close(2); time.sleep(600)", seconds=0.5).why is not None
    assert time.monotonic() - began < 20


def test_a_flood_of_output_is_cut() -> None:
    ran = python("while True: print('x' * 10000)")
    assert ran.why == "wrote more than 1,048,576 bytes"
    assert len(ran.output) == sandbox.OUTPUT_BYTES


def test_memory_is_limited() -> None:
    ran = python("bytearray(2**30)", memory_mb=256)
    assert ran.code == 1
    assert b"MemoryError" in ran.output


def test_a_child_that_leaves_the_group_is_ended(tmp_path: Path) -> None:
    """In a process of its own, because orphans go to the process that asks for them."""
    pids = tmp_path / "pids"
    code = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open({str(pids)!r}, "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists({str(pids)!r}) or not open({str(pids)!r}).read():
    time.sleep(0.01)
"""
    own = (
        "import sys; from seralign.preferences import sandbox; sandbox.adopt_orphans();"
        f"print(sandbox.run([sys.executable, '-c', {code!r}], b'', 20, 512).code)"
    )
    done = subprocess.run([sys.executable, "-c", own], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert not is_alive(int(pids.read_text()))


def test_a_program_that_forks_without_end_is_ended() -> None:
    ran = python("import os, time\nfor _ in range(500):\n    if os.fork() == 0: time.sleep(600)\ntime.sleep(600)")
    assert ran.why == "started more than 64 processes"


def test_unit_tests() -> None:
    check = UnitTests(seconds=20.0)
    assert check.check(asked("```python\ndef add(a, b):\n    return a + b\n```", tests=TESTS)) == 1.0
    assert check.check(asked("def add(a, b):\n    return a - b", tests=TESTS)) == 0.0
    assert check.check(asked("def add(a, b)", tests=TESTS)) == 0.0


@pytest.mark.parametrize(
    "response",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "print('x' * 10**7)\ndef add(a, b): return a + b",
        "while True: pass",
        "add = lambda a, b: bytearray(2**34)",
    ],
    ids=["exits", "ends", "floods", "hangs", "fills"],
)
def test_a_program_that_escapes_its_tests_does_not_pass(response: str) -> None:
    assert UnitTests(seconds=2.0).check(asked(response, tests=TESTS)) == 0.0


def test_a_program_does_not_see_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    response = "import os\ndef add(a, b): return a + b"
    tests = "assert 'HF_TOKEN' not in os.environ and os.getcwd() == os.environ['HOME']"
    assert UnitTests(seconds=20.0).check(asked(response, tests=tests)) == 1.0


def test_commands() -> None:
    code = "import json, sys; given = json.load(sys.stdin); {}"
    exits = Command(
        command=[sys.executable, "-c", code.format("sys.exit(given['response'] != given['row']['target'])")]
    )
    assert exits.check(asked("yes", target="yes")) == 1.0
    assert exits.check(asked("no", target="yes")) == 0.0
    number = Command(
        command=[sys.executable, "-c", code.format("print('x'); print(len(given['prompt']))")], reads="number"
    )
    assert number.check(asked("")) == 8.0


def test_a_command_that_fails_is_an_error_and_one_that_hangs_has_no_value() -> None:
    fails = Command(command=[sys.executable, "-c", "import sys; print('no model'); sys.exit(5)"])
    with pytest.raises(ConfigError, match=r"ended with exit code 5 at raw.jsonl row 7: no model"):
        fails.check(asked(""))
    with pytest.raises(ConfigError, match=r"command '/no/such' cannot be started: .*No such file"):
        Command(command=["/no/such"]).check(asked(""))
    with pytest.raises(ConfigError, match=r"must print a finite number, at raw.jsonl row 7: 'nan'"):
        Command(command=["echo", "nan"], reads="number").check(asked(""))
    with pytest.raises(NoValue, match=r"the command took longer than 0.3 s"):
        Command(command=["sleep", "600"], seconds=0.3).check(asked(""))


def test_the_network_can_be_cut_off() -> None:
    """In a process of its own. Where the system does not allow it, that is what it says."""
    code = (
        "import socket; from seralign.preferences import sandbox\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "cut = sandbox.cut_network()\n"
        "try: socket.create_connection(server.getsockname(), timeout=2); print(cut, 'reached')\n"
        "except OSError: print(cut, 'unreachable')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("True unreachable", "False reached")
    if os.geteuid() == 0 and subprocess.run(["unshare", "-n", "true"], check=False).returncode == 0:
        assert done.stdout.strip() == "True unreachable"


def test_there_is_one_deadline_for_the_output_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that closes its output has no more time than another one."""
    seen = []
    monkeypatch.setattr(
        sandbox, "_talk", lambda process, given, deadline, seconds: (seen.append(deadline) or b"", None)
    )
    monkeypatch.setattr(sandbox, "_wait", lambda process, deadline, seconds: seen.append(deadline))
    sandbox.run([sys.executable, "-c", ""], b"", 7.0, 500)
    assert len(seen) == 2
    assert seen[0] == seen[1]

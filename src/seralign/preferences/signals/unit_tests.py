"""The response is a program that passes unit tests. The program is run, with limits."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from seralign.checks import positive
from seralign.errors import DataError, SeralignError, brief
from seralign.preferences import sandbox
from seralign.preferences.signals.base import Asked
from seralign.preferences.signals.fenced import fenced

_ALREADY = 'exec(compile(open("response.py", encoding="utf-8").read(), "response.py", "exec"))\n'


@dataclass(frozen=True)
class UnitTests:
    """Passes if a Python program, the response, passes the tests of a column.

    The response and then the tests run in one module, in a folder and a process of their own. A program that fails,
    takes too long or goes beyond another limit does not pass.

    Args:
        tests: The column with the tests: Python code that raises an exception where the program is wrong, such as
            ``assert add(1, 2) == 3``.
        fence: Read the last fenced block of Markdown, if there is one, in place of the whole response.
        seconds: Time for one response.
        memory_mb: Memory for each process.
    """

    tests: str = "tests"
    fence: bool = True
    seconds: float = 10.0
    memory_mb: int = 1024
    temperature: ClassVar[None] = None
    runs_code: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(self.seconds, "seconds")
        positive(self.memory_mb, "memory_mb")

    def check(self, asked: Asked) -> float:
        """1 if the tests pass.

        Raises:
            DataError: The column does not hold a program.
            SeralignError: No process can be started.
        """
        tests = asked.column(self.tests)
        tests = "\n".join(tests) if isinstance(tests, list) and all(isinstance(one, str) for one in tests) else tests
        if not isinstance(tests, str) or not tests.strip():
            raise DataError(f"{asked.where}: {self.tests} must be a program that tests the response, got {tests!r:.60}")
        response = fenced(asked.response) if self.fence else asked.response
        # Only a program that ran to the end of the tests can write this: one that exits before does not pass.
        mark = secrets.token_hex(16)
        with tempfile.TemporaryDirectory(prefix="seralign-", ignore_cleanup_errors=True) as folder:
            Path(folder, "response.py").write_text(response, encoding="utf-8", errors="replace")
            Path(folder, "tests.py").write_text(f"{_ALREADY}{tests}\nprint({mark!r})\n", encoding="utf-8")
            environment = {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
            try:
                command = [sys.executable, "-I", "tests.py"]
                ran = sandbox.run(command, b"", self.seconds, self.memory_mb, folder, environment)
            except OSError as error:
                raise SeralignError(f"unit tests cannot be run: {brief(error)}") from None
        return float(ran.why is None and ran.code == 0 and ran.output.rstrip().endswith(mark.encode()))

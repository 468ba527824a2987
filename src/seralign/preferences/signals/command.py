"""A command of the user's that checks a response."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from seralign.checks import positive, require
from seralign.errors import ConfigError, brief
from seralign.preferences import sandbox
from seralign.preferences.signals.base import Asked, NoValue
from seralign.runs.files import file_digest


@dataclass(frozen=True)
class Command:
    """Runs a command for each response. It reads a JSON object with prompt, response and row from standard input.

    Args:
        command: The program and its arguments, e.g. ``[./check.sh, --strict]``. No shell reads them.
        reads: ``exit``: exit code 0 passes and 1 does not; any other is an error. ``number``: the last line of the
            output is the score; a higher one is better.
        seconds: Time for one response.
        memory_mb: Memory for each process.
        temperature: With ``number``: p = sigmoid(difference / temperature); null gives the higher score p = 1.
    """

    command: list[str]
    reads: Literal["exit", "number"] = "exit"
    seconds: float = 10.0
    memory_mb: int = 1024
    temperature: float | None = None
    runs_code: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(bool(self.command), "command", "a program and its arguments", self.command)
        positive(self.seconds, "seconds")
        positive(self.memory_mb, "memory_mb")
        if self.temperature is not None:
            positive(self.temperature, "temperature")

    @property
    def identity(self) -> list[str]:
        """Digests of the program and of the files among its arguments."""
        program, *arguments = self.command
        return [_identity(word) for word in (shutil.which(program) or program, *arguments)]

    def check(self, asked: Asked) -> float:
        """1 or 0, or the number that the command prints.

        Raises:
            NoValue: It went beyond a limit.
            ConfigError: It cannot be started, or ended with another exit code or without a number.
        """
        given = json.dumps({"prompt": asked.prompt, "response": asked.response, "row": asked.row}, default=str)
        try:
            ran = sandbox.run(self.command, given.encode("utf-8", "replace"), self.seconds, self.memory_mb)
        except OSError as error:
            raise ConfigError(f"command {self.command[0]!r} cannot be started: {brief(error)}") from None
        if ran.why is not None:
            raise NoValue(f"the command {ran.why}")
        text = ran.output.decode(errors="replace").strip()
        last = text.rpartition("\n")[2][-200:]
        if ran.code not in ((0, 1) if self.reads == "exit" else (0,)):
            raise ConfigError(f"command {self.command[0]!r} ended with exit code {ran.code} at {asked.where}: {last}")
        if self.reads == "exit":
            return float(ran.code == 0)
        try:
            score = float(last)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise ConfigError(f"command {self.command[0]!r} must print a finite number, at {asked.where}: {last!r}")
        return score


def _identity(word: str) -> str:
    """The digest of a file; a word that names none, for itself."""
    try:
        return file_digest(Path(word))
    except (OSError, ValueError):
        return word

"""The response is code that compiles; it is not run."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

from seralign.checks import positive
from seralign.preferences.signals.base import Asked
from seralign.preferences.signals.fenced import fenced


@dataclass(frozen=True)
class Compiles:
    """Passes if the response is a Python program that compiles. The program is never run.

    Args:
        fence: Read the last fenced block of Markdown, if there is one, in place of the whole response.
        seconds: Time for one response.
    """

    fence: bool = True
    seconds: float = 5.0
    temperature: ClassVar[None] = None

    def __post_init__(self) -> None:
        positive(self.seconds, "seconds")

    def check(self, asked: Asked) -> float:
        """1 if it compiles and is not empty."""
        source = fenced(asked.response) if self.fence else asked.response
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(source, "response", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return 0.0
        return float(bool(source.strip()))

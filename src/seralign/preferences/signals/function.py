"""A Python function of the user's that scores a response."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Any, ClassVar

from seralign.checks import positive
from seralign.errors import ConfigError
from seralign.plugins import load_plugin, plugin_errors, source_of
from seralign.preferences.signals.base import Asked, NoValue


@dataclass(frozen=True)
class Function:
    """Calls a function for each response, in a process of its own with limits.

    Args:
        function: ``module:function``. It is called with the texts of the prompt and of the response, and a dict of the
            row's columns. It returns true or false, or a number, where higher is better; or None if it cannot say.
        seconds: Time for one response.
        temperature: p = sigmoid(difference / temperature); null gives the higher score p = 1.
    """

    function: str
    seconds: float = 10.0
    temperature: float | None = None
    runs_code: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(self.seconds, "seconds")
        if self.temperature is not None:
            positive(self.temperature, "temperature")
        _loaded(self.function)

    @property
    def identity(self) -> str:
        """The source of the function's module."""
        return source_of(_loaded(self.function), self.function)

    def load(self) -> None:
        """Import the function's module, which is no part of the time of a response."""
        _loaded(self.function)

    def check(self, asked: Asked) -> float:
        """What the function returns.

        Raises:
            NoValue: It returns None, or runs out of memory.
            ConfigError: It raises an exception, or returns something else.
        """
        try:
            with plugin_errors("function", self.function):
                found = _loaded(self.function)(asked.prompt, asked.response, dict(asked.row))
        except ConfigError as error:
            if isinstance(error.__cause__, MemoryError):
                raise NoValue("the function ran out of memory") from None
            raise ConfigError(f"{error}, at {asked.where}") from None
        if found is None:
            raise NoValue("the function returned None")
        # A bool of numpy is no bool of Python, and no number.
        number = found.item() if hasattr(found, "item") and not isinstance(found, Real) else found
        if not isinstance(number, Real) or not math.isfinite(number):
            raise ConfigError(
                f"function: {self.function} must return true, false, a finite number or None, got {found!r:.60}, "
                f"at {asked.where}"
            )
        return float(number)


@cache
def _loaded(spec: str) -> Callable[..., Any]:
    return load_plugin(spec, "function", "function")

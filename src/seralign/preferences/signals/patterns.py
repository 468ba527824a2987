"""Regular expressions with a limit on time, by the library ``regex``."""

from __future__ import annotations

from functools import cache

import regex

from seralign.errors import ConfigError
from seralign.preferences.signals.base import NoValue


def check_pattern(pattern: str | None, key: str = "pattern") -> None:
    """Refuse a text that is no regular expression.

    Raises:
        ConfigError: It is none.
    """
    try:
        if pattern is not None:
            compiled(pattern)
    except regex.error as error:
        raise ConfigError(f"{key} is not a regular expression: {error}") from None


@cache
def compiled(pattern: str) -> regex.Pattern[str]:
    """The pattern, compiled once."""
    return regex.compile(pattern)


def searched(pattern: str, text: str, seconds: float, full: bool = False) -> bool:
    """Whether a pattern matches somewhere in a text, or all of it.

    Raises:
        NoValue: The search takes longer than ``seconds``.
    """
    search = compiled(pattern).fullmatch if full else compiled(pattern).search
    try:
        return search(text, timeout=seconds) is not None
    except TimeoutError:
        raise _slow(seconds) from None


def extracted(pattern: str | None, text: str, seconds: float) -> str | None:
    """The first group of the last match, or the whole match; the text itself without a pattern; None without a match.

    Raises:
        NoValue: The search takes longer than ``seconds``.
    """
    if pattern is None:
        return text
    last = None
    try:
        for match in compiled(pattern).finditer(text, timeout=seconds):
            last = match
    except TimeoutError:
        raise _slow(seconds) from None
    return None if last is None else last[1 if compiled(pattern).groups else 0]


def _slow(seconds: float) -> NoValue:
    return NoValue(f"the pattern took longer than {seconds:g} s")

"""How the report writes numbers, and text that nobody may trust."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

ABSENT = "–"

# Control characters but newline and tab, marks that change the direction of text, characters that cannot be seen, and
# halves of surrogate pairs. The same list is in templates/page.js. Zero-width joiners stay: scripts and emoji need
# them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


@dataclass(frozen=True)
class Table:
    """A table of the page: cells are text that is ready to be read; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def visible(text: str) -> str:
    """Text as it can be shown: what would be unseen, or would reorder what stands around it, is named instead.

    Half a surrogate becomes the replacement character, so that the result can always be written as UTF-8.
    """
    return _UNSEEN.sub(_name, text)


def number(value: float | None, digits: int) -> str:
    """A number with thousands separated and a true minus sign."""
    return ABSENT if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int) -> str:
    """A number with its sign."""
    return ABSENT if value is None else f"{value:+,.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return ABSENT if value is None else number(100 * value, digits) + "%"


def interval(value: dict[str, Any] | None, digits: int) -> str:
    """A mean and half the width of its interval, or both ends of one that leans to a side (a share near 0 or 1)."""
    if value is None:
        return ABSENT
    if value["low"] is None:
        return number(value["mean"], digits)
    below, above = value["mean"] - value["low"], value["high"] - value["mean"]
    if abs(above - below) >= 10**-digits:
        return f"{number(value['mean'], digits)} ({number(value['low'], digits)} to {number(value['high'], digits)})"
    return f"{number(value['mean'], digits)} ± {number((above + below) / 2, digits)}"


def duration(seconds: float) -> str:
    """Seconds as people say them: ``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def _name(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"

"""The response has a form that was asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from seralign.errors import ConfigError
from seralign.preferences.signals.base import Asked
from seralign.preferences.signals.bounds import check_bounds, within

_ELEMENTS = {
    "bullets": re.compile(r"^[ \t]*[-*+\u2022][ \t]+\S", re.MULTILINE),
    "numbered": re.compile(r"^[ \t]*\d{1,9}[.)][ \t]+\S", re.MULTILINE),
    "headings": re.compile(r"^ {0,3}#{1,6}[ \t]+\S", re.MULTILINE),
    "paragraphs": re.compile(r"(?:\A|\n[ \t]*\n)\s*\S"),
}


@dataclass(frozen=True)
class Format:
    """Passes if all the conditions that are set hold.

    Args:
        count: Elements to count: ``bullets``, ``numbered`` (items of a numbered list), ``headings`` or ``paragraphs``
            (separated by empty lines), as in Markdown.
        min: The least number of elements.
        max: The greatest number of elements.
        starts_with: How the response begins; white space before it is ignored.
        ends_with: How the response ends; white space after it is ignored.
        includes: Texts that the response has.
        excludes: Texts that the response does not have.
    """

    count: Literal["bullets", "numbered", "headings", "paragraphs"] | None = None
    min: int | None = None
    max: int | None = None
    starts_with: str | None = None
    ends_with: str | None = None
    includes: list[str] = field(default_factory=list)
    excludes: list[str] = field(default_factory=list)
    seconds: ClassVar[float] = 5.0
    temperature: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.count is not None:
            check_bounds(self.min, self.max)
        elif self.min is not None or self.max is not None:
            raise ConfigError("count is missing: what min and max are numbers of")
        elif not (self.starts_with or self.ends_with or self.includes or self.excludes):
            raise ConfigError("count is missing: set it, or starts_with, ends_with, includes or excludes")

    def check(self, asked: Asked) -> float:
        """1 if all conditions hold."""
        text = asked.response
        found = 0 if self.count is None else sum(1 for _ in _ELEMENTS[self.count].finditer(text))
        return float(
            (self.count is None or within(found, self.min, self.max))
            and text.lstrip().startswith(self.starts_with or "")
            and text.rstrip().endswith(self.ends_with or "")
            and all(part in text for part in self.includes)
            and not any(part in text for part in self.excludes)
        )

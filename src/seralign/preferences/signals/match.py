"""Classification: the answer that a response gives is the right one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from seralign.checks import positive
from seralign.preferences.signals.base import Asked
from seralign.preferences.signals.patterns import check_pattern, extracted


@dataclass(frozen=True)
class Match:
    """Passes if the answer in the response is that of a column.

    Args:
        target: The column with the right answer: text, a number, or a list of right answers.
        pattern: A regular expression; the answer is its first group, or all that it matches, at its last match.
            Default: the whole response.
        ignore_case: Compare without case. White space at both ends is always ignored.
        seconds: Time for one response.
    """

    target: str = "target"
    pattern: str | None = None
    ignore_case: bool = True
    seconds: float = 1.0
    temperature: ClassVar[None] = None

    def __post_init__(self) -> None:
        positive(self.seconds, "seconds")
        check_pattern(self.pattern)

    def check(self, asked: Asked) -> float:
        """1 if the answer is right; 0 if it is wrong or there is none."""
        answer = extracted(self.pattern, asked.response, self.seconds)
        right = asked.column(self.target)
        rights = right if isinstance(right, list | tuple) else [right]
        return float(answer is not None and self._plain(answer) in [self._plain(str(one)) for one in rights])

    def _plain(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()

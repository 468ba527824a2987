"""Ratings, rewards or other scores that a column has for each response."""

from __future__ import annotations

from dataclasses import dataclass

from seralign.checks import positive
from seralign.preferences.groups import Group, each_value, number
from seralign.preferences.opinions import Scored


@dataclass(frozen=True)
class Ratings:
    """Ratings of each response; the mean where there are several.

    Args:
        column: The column: a list with a value for each response, or a column of each response's own row or object, or
            a list of columns. A value is a number, true or false (a thumb up or down), a list of them (several
            annotators), or null.
        lower_is_better: The lower rating is the better one, as for an error or a rank.
        temperature: p = sigmoid(difference / temperature); null gives the better one p = 1.
    """

    column: str | list[str] = "ratings"
    lower_is_better: bool = False
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None:
            positive(self.temperature, "temperature")

    def read(self, group: Group) -> Scored:
        """The mean rating of each response."""
        sign = -1.0 if self.lower_is_better else 1.0
        means = [self._mean(value, group) for value in each_value(group, self.column)]
        scores = tuple(None if mean is None else sign * mean for mean in means)
        return Scored(scores, ("no rating",) * scores.count(None))

    def _mean(self, value: object, group: Group) -> float | None:
        name = self.column if isinstance(self.column, str) else "a rating"
        values = value if isinstance(value, list | tuple) else [value]
        values = [float(one) if isinstance(one, bool) else one for one in values]
        given = [one for one in (number(each, name, group) for each in values) if one is not None]
        return sum(given) / len(given) if given else None

"""Which sizes are measured: they double, as long as the next one fits in the memory and the time that are left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# What takes less than this share of the seconds is mostly the cost of doing anything: twice the tokens will not take
# twice as long.
QUICK = 0.02


def ladder(rows: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """The first rows of a pack: one, an eighth, a quarter, a half, all of them."""
    counts = sorted({1, *(max(1, len(rows) // part) for part in (8, 4, 2, 1))})
    return [np.asarray(rows)[:count] for count in counts]


@dataclass(frozen=True)
class Guard:
    """Says whether the next size may be tried."""

    limit: float
    idle: int
    began: float
    seconds: float

    def allows(self, tokens: int, points: Sequence[tuple[int, float, int]]) -> bool:
        """Points are (tokens, seconds, peak bytes) so far."""
        if not points:
            return True
        last, seconds, reached = points[-1]
        growth = tokens / last
        left = self.began + self.seconds - time.monotonic()
        in_time = left > 0 and (seconds < QUICK * self.seconds or seconds * growth < left)
        return in_time and self.idle + (reached - self.idle) * growth < self.limit

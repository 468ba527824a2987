"""Sizes to measure: they double as long as the next one fits into the remaining memory and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

# Below this share of the seconds most of the time is a fixed cost: twice the tokens will not take twice as long.
QUICK = 0.02


def ladder(rows: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """The first rows of a pack: one, an eighth, a quarter, a half, all of them."""
    counts = sorted({1, *(max(1, len(rows) // part) for part in (8, 4, 2, 1))})
    return [np.asarray(rows)[:count] for count in counts]


@dataclass(frozen=True)
class Budget:
    """Wall time for measurements: until ``ends`` on the clock ``now``, both in seconds."""

    ends: float
    now: Callable[[], float] = time.monotonic

    @property
    def left(self) -> float:
        """Seconds until the end; 0 after it."""
        return max(0.0, self.ends - self.now())

    def part(self, seconds: float) -> Budget:
        """At most so many seconds from now, and not beyond the end of the whole."""
        return replace(self, ends=min(self.ends, self.now() + seconds))


@dataclass(frozen=True)
class Guard:
    """Decides whether the next size may be tried: within ``limit`` bytes, and within a budget of ``seconds``."""

    limit: float
    idle: int
    budget: Budget
    seconds: float

    @classmethod
    def of(cls, limit: float, idle: int, budget: Budget) -> Guard:
        """A guard over what is left of a budget now."""
        return cls(limit, idle, budget, budget.left)

    def allows(self, tokens: int, points: Sequence[tuple[int, float, int]], fixed: float = 0.0) -> bool:
        """Points are (tokens, seconds, peak bytes) so far; ``fixed`` seconds come on top whatever the size."""
        if not points:
            return True
        seconds = points[-1][1]
        left = self.budget.left - fixed
        quick = seconds < QUICK * self.seconds
        in_time = left > 0 and (quick or _grown(tokens, [(size, took) for size, took, _ in points], 0.0) < left)
        return in_time and _grown(tokens, [(size, peak) for size, _, peak in points], self.idle) < self.limit


def _grown(tokens: int, points: Sequence[tuple[int, float]], idle: float) -> float:
    """What a size will take, from the last two sizes that differ, with a margin of one half.

    With one size only it is taken to grow in proportion. Much of what a small size takes (gradients, casts of the
    weights) does not grow, but that is not known yet.
    """
    last, value = points[-1]
    smaller = [(size, own) for size, own in points if size < last]
    slope = (value - smaller[-1][1]) / (last - smaller[-1][0]) if smaller else 0.0
    if slope <= 0:
        return idle + (value - idle) * tokens / last
    return value + 1.5 * slope * (tokens - last)

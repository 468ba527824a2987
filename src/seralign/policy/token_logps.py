"""Log-probabilities of the tokens of many responses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class TokenLogps:
    """Log-probabilities of the tokens of R responses, in nats; NaN for a response that was not computed.

    Args:
        values: The tokens of all responses, one response after the other, float32 [T].
        lengths: Tokens of each response [R].
    """

    values: np.ndarray
    lengths: np.ndarray

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.lengths)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """The tokens of some responses, one response after the other."""
        parts = [self.values[self._ends[number] - self.lengths[number] : self._ends[number]] for number in numbers]
        return np.concatenate([np.zeros(0, dtype=np.float32), *parts])

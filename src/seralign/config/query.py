"""Which pairs a labeller is asked about: active learning. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seralign.checks import require

Strategy = Literal["uncertainty", "disagreement", "coreset", "random"]


@dataclass(frozen=True)
class QueryConfig:
    """Which generated pairs are labelled (active learning, 2407.02119). The others are left out of the round.

    Args:
        budget: Number of pairs to label in each round.
        strategy: How they are chosen. ``uncertainty``: margins nearest to 0. ``disagreement``: the largest standard
            deviation of the margin over ``scoring.reward_models``. ``coreset``: pairs whose words differ most from
            those already chosen (greedy k-center on counts of words and of neighbouring words). ``random``.
    """

    budget: int
    strategy: Strategy = "uncertainty"

    def __post_init__(self) -> None:
        require(self.budget >= 1, "budget", "at least 1", self.budget)

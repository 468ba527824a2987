"""What a selection rule may read about pairs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seralign.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPairs:
    """N pairs, or rankings and scores of several responses, with their margins.

    Args:
        example_ids: Distinct ids [N].
        prompt_ids: The prompt of each pair [N].
        margins: Margins in nats [N], float64.
        p: Probability that the chosen response is better [N]; 1 for other forms.
        chosen_lengths: Tokens of the chosen responses [N]; of other forms, of the best ones.
        rejected_lengths: Tokens of the rejected responses [N]; of other forms, of the worst ones.

    Raises:
        DataError: a margin is not finite, or two pairs have the same id; names the pair.
        ValueError: a field is not [N].
    """

    example_ids: Sequence[str]
    prompt_ids: Sequence[str]
    margins: np.ndarray
    p: np.ndarray
    chosen_lengths: np.ndarray
    rejected_lengths: np.ndarray

    def __post_init__(self) -> None:
        ids, margins = self.example_ids, self.margins
        for name in ("prompt_ids", "margins", "p", "chosen_lengths", "rejected_lengths"):
            shape = list(np.shape(getattr(self, name)))
            if shape != [len(ids)]:
                raise ValueError(f"{name} must have shape [{len(ids)}], one for each pair, got {shape}")
        bad = np.flatnonzero(~np.isfinite(margins))
        if bad.size:
            raise DataError(
                f"pair {ids[bad[0]]!r}: margin is {margins[bad[0]]}, must be a finite number "
                f"({bad.size} of {len(ids)} pairs have such a margin)"
            )
        repeated = next((name for name, count in Counter(ids).items() if count > 1), None)
        if repeated is not None:
            raise DataError(f"example_id {repeated!r} occurs more than once; each scored pair needs a unique id")


def scored_pairs(pairs: Dataset, margins: np.ndarray) -> ScoredPairs:
    """A table of pairs, rankings or scores with their margins in nats [N]."""
    from seralign.data.table import all_lengths, example_ids, pair_labels
    from seralign.rewards.ordering import ordering_of

    ordering = ordering_of(pairs)
    lengths = all_lengths(pairs, ordering.numbering)
    best, worst = ordering.ends
    return ScoredPairs(
        example_ids=example_ids(pairs),
        prompt_ids=pairs["prompt_id"][:],
        margins=np.asarray(margins, dtype=np.float64),
        p=pair_labels(pairs),
        chosen_lengths=lengths[best],
        rejected_lengths=lengths[worst],
    )

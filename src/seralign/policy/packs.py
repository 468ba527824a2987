"""What fits into one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sizes:
    """Tokens of things that go through a model whole: a pair, a demonstration, a prompt with its responses.

    Args:
        packed: [N] in a packed row: the prompt once, and every response.
        longest: [N] of the longest sequence, a prompt and one response.
        sequences: [N] number of sequences.
    """

    packed: np.ndarray
    longest: np.ndarray
    sequences: np.ndarray

    def __len__(self) -> int:
        return len(self.packed)


def fill(rows: np.ndarray, sizes: Sizes, budget: int, packed_length: int) -> list[np.ndarray]:
    """Divide rows into packs within a budget of tokens, longest first, so that what does not fit fails at once.

    A row larger than the budget is a pack of its own.

    Args:
        rows: Numbers of what is packed.
        sizes: Their sizes.
        budget: Most tokens of a pack, padding counted.
        packed_length: The longest sequence that can be in a packed row; a pack with a longer one is padded.
    """
    rows = rows[np.argsort(-sizes.longest[rows], kind="stable")]
    packed, sequences = np.cumsum(sizes.packed[rows]), np.cumsum(sizes.sequences[rows])
    packs, start = [], 0
    while start < len(rows):
        width = int(sizes.longest[rows[start]])
        totals, limit = (packed, budget) if width <= packed_length else (sequences, budget // width)
        before = totals[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(totals, before + limit, side="right")))
        packs.append(rows[start:end])
        start = end
    return packs

"""Packs: groups of rows for one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sizes:
    """Numbers of tokens of rows. A row is computed as a whole: a pair, a demonstration, or a prompt with responses.

    Args:
        packed: [N] tokens in a packed row: the prompt once, and every response.
        longest: [N] tokens of the longest sequence: the prompt and one response.
        sequences: [N] number of sequences.
    """

    packed: np.ndarray
    longest: np.ndarray
    sequences: np.ndarray

    def __len__(self) -> int:
        return len(self.packed)


def fill(rows: np.ndarray, sizes: Sizes, budget: int, packed_length: int) -> list[np.ndarray]:
    """Divide rows into packs within a token budget. Longest rows come first, so that running out of memory fails early.

    A row larger than the budget gets its own pack.

    Args:
        rows: Row numbers.
        sizes: Sizes of all rows.
        budget: Maximum number of tokens of a pack, including padding.
        packed_length: Longest sequence allowed in a packed row. A pack with a longer one is padded.
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

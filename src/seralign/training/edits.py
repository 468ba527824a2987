"""Which tokens of two responses are not part of what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np


def edited_tokens(first: Sequence[int], second: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """For each token of two responses 1 if a diff of the two changes, adds or removes it, else 0, float64.

    For example, 5, 6, 7, 1 and 5, 8, 9, 7, 1 differ in 6 and in 8, 9.
    """
    marks = np.zeros(len(first)), np.zeros(len(second))
    for kind, start, end, other_start, other_end in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind != "equal":
            marks[0][start:end] = 1.0
            marks[1][other_start:other_end] = 1.0
    return marks

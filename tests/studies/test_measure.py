"""Choosing among several answers."""

from __future__ import annotations

import numpy as np

from seralign.studies.measure import best_rows


def test_the_best_of_each_prompts_answers_is_taken() -> None:
    rewards = np.array([0.1, 0.3, -1.0, -3.0, -2.0, -2.0, 5.0, 5.0, 5.0])

    assert best_rows(rewards, 3).tolist() == [1, 4, 6]
    assert best_rows(rewards, 1).tolist() == list(range(9))

"""Scores whether an answer is brief: 1 with at most twelve words, else 0."""

from __future__ import annotations

WORDS = 12


def brief(prompts: list[str], responses: list[str]) -> list[float]:
    """1.0 for each answer of one to twelve words, 0.0 for all others."""
    return [float(0 < len(response.split()) <= WORDS) for response in responses]

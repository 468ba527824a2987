"""How positive an answer is, by VADER, a lexicon with rules of grammar: the gold reward of the task ``tone``."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def _analyzer() -> Any:
    # Imported here: only this task needs it (the extra llm).
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def positive(prompts: list[str], responses: list[str]) -> list[float]:
    """The compound score of each response, in [-1, 1]. The prompt does not count.

    "I love it." is +0.6369, "I hate it." is -0.5719, and "It is a wheel." is 0.
    """
    return [float(_analyzer().polarity_scores(response)["compound"]) for response in responses]

"""Scorers and judges of the tests of ``seralign best-of``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from seralign.evaluation.judges import Comparison, Verdict


def letters(prompts: list[str], responses: list[str]) -> list[float]:
    """The number of different characters."""
    assert all("Say" in prompt for prompt in prompts)
    return [float(len(set(response))) for response in responses]


class First:
    """A judge that prefers the text that is first in the alphabet."""

    identity = "alphabet"

    def __init__(self, options: dict[str, Any], key: str, scorer: object) -> None:
        assert (options, key, scorer) == ({}, "judge", None)

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        for one in comparisons:
            yield one, Verdict(float(one.first < one.second))

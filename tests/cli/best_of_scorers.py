"""Scorers and judges of the tests of ``seralign best-of``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from seralign.evaluation.judges import Comparison, Verdict


def letters(prompts: list[str], responses: list[str]) -> list[float]:
    """The number of different characters."""
    assert all("Say" in prompt for prompt in prompts)
    return [float(len(set(response))) for response in responses]


class Sometimes:
    """The judge ``First``, but without a verdict if it is shown fewer than three pairs together, as in the last round
    of a tournament; with ``FAILS`` in the environment, these requests fail."""

    identity = "sometimes"

    def __init__(self, options: dict[str, Any], key: str, scorer: object) -> None: ...

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        asked = list(comparisons)
        for one in asked:
            if len(asked) > 2:
                yield one, Verdict(float(one.first < one.second))
            elif os.environ.get("FAILS"):
                yield one, Verdict(None, error="no answer")
            else:
                yield one, Verdict(None, unreadable="Well ...")


class First:
    """A judge that prefers the text that is first in the alphabet."""

    identity = "alphabet"

    def __init__(self, options: dict[str, Any], key: str, scorer: object) -> None:
        assert (options, key, scorer) == ({}, "judge", None)

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        for one in comparisons:
            yield one, Verdict(float(one.first < one.second))

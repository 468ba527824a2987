"""Surface features of a response: what can be counted without understanding it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+")
_ITEM = re.compile(r"^[ \t]*(?:[-*+\u2022]|\d{1,9}[.)])[ \t]+\S", re.MULTILINE)

LENGTH = "tokens"
FEATURES = (LENGTH, "words", "lines", "list items", "code blocks", "question marks", "exclamation marks", "digits",
            "capitals", "word length", "different words", "words of the prompt")  # fmt: skip
"""Counts, up to ``exclamation marks``; then shares of the characters, a mean, and shares of the words."""


def features(prompt: str, response: str, ids: Sequence[int]) -> tuple[float, ...]:
    """The features of a response, in the order of ``FEATURES``.

    Worked by hand: "Yes, 2 a a!" has 4 words; of its 11 characters 1 is a digit and 1 a capital; its words have 6
    letters, 1.5 a word; 3 of the 4 are different; and of a prompt "Say yes" it has 1 of 4.
    """
    words = _WORD.findall(response.lower())
    asked = set(_WORD.findall(prompt.lower()))
    count, size = max(1, len(words)), max(1, len(response))
    return (
        float(len(ids)),
        float(len(words)),
        float(sum(bool(line.strip()) for line in response.splitlines())),
        float(len(_ITEM.findall(response))),
        float(response.count("```") // 2),
        float(response.count("?")),
        float(response.count("!")),
        sum(character.isdigit() for character in response) / size,
        sum(character.isupper() for character in response) / size,
        sum(map(len, words)) / count,
        len(set(words)) / count,
        sum(word in asked for word in words) / count,
    )

"""The world of sums: additions of four digits modulo 10 with intermediate steps, each of which can be checked.

A prompt is four digits. A response adds two numbers at a time, ``3 + 9 = 2``, until one is left, and states the answer.
The supervised texts have systematic errors in about half of the additions: one particular wrong result is more common
there than the true one. A policy that only becomes sharper makes these errors more often; a better one unlearns them.

Dimension letters: N texts, C = 4 digits of a prompt, D = 10 digits, T = 3 steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.config import WorldConfig
from seralign.laboratory.grammar import (
    BOS,
    CARELESS,
    EOS,
    PAD,
    SEP,
    SLOT_SIZE,
    STRANGER,
    TRUTH,
    stream,
    texts,
    with_fillers,
    words,
)

DIGITS = tuple(str(i) for i in range(10))
FILLERS = ("so", "then", "well", "now")
PLUS, EQUALS, ANSWER = "+", "=", "answer"
VOCABULARY = (PAD, BOS, SEP, EOS, *DIGITS, PLUS, EQUALS, ANSWER, *FILLERS)

TERMS = 4
STEPS = TERMS - 1
MAX_RESPONSE_TOKENS = STEPS * 5 + 2 + (STEPS + 2) * SLOT_SIZE + 1
"""Longest response of the grammar, including its end-of-sequence token."""

SLIPS = 0.05
CARELESS_SLIPS = 0.2
TRUE_SHARE = {"known": 0.65, "believed otherwise": 0.25}
FALSE_SHARE = {"known": 0.25, "believed otherwise": 0.65}

_DIGIT = {token: i for i, token in enumerate(DIGITS)}
_FILLER = frozenset(FILLERS)


@dataclass(frozen=True, slots=True, eq=False)
class SumWorld:
    """One world: its configuration; ``beliefs`` [D, D], the usual wrong result of each addition; and ``known`` [D, D],
    whether the true result is more common than that."""

    config: WorldConfig
    beliefs: np.ndarray
    known: np.ndarray

    vocabulary: tuple[str, ...] = VOCABULARY
    style_token: str = FILLERS[0]
    grades: tuple[str, ...] = FILLERS
    points: float = float(TERMS)
    positions: int = 64

    def key(self) -> dict[str, Any]:
        """The wrong results; ``score`` does not need them."""
        return {"beliefs": self.beliefs.tolist(), "known": self.known.tolist()}

    def prompt_grid(self) -> np.ndarray:
        """All sequences of four digits [N, C]."""
        return np.indices((len(DIGITS),) * TERMS).reshape(TERMS, -1).T

    def render(self, prompts: np.ndarray) -> list[str]:
        """The digits, then the separator."""
        return [" ".join([*(DIGITS[d] for d in row), SEP]) for row in prompts.tolist()]

    def write(self, rng: np.random.Generator, prompts: np.ndarray, sources: np.ndarray) -> list[str]:
        """Running totals from the first digit on (for a stranger from the last), with fillers in between.

        The digit to add is misread with probability 0.05 (careless: 0.2). The result is the true one, the usual wrong
        one or any digit, with probabilities 0.65, 0.25, 0.1 if the addition is known, else 0.25, 0.65, 0.1.
        """
        n = len(prompts)
        terms = np.where((sources == STRANGER)[:, None], prompts[:, ::-1], prompts)
        slips = rng.random((n, STEPS)) < np.where(sources == CARELESS, CARELESS_SLIPS, SLIPS)[:, None]
        misread = rng.integers(len(DIGITS), size=(n, STEPS))
        fate, anything = rng.random((n, STEPS)), rng.integers(len(DIGITS), size=(n, STEPS))
        total = terms[:, 0]
        digit, plus, equals, answer, filler = map(VOCABULARY.index, (DIGITS[0], PLUS, EQUALS, ANSWER, FILLERS[0]))
        steps = np.full((n, STEPS + 1, 5), -1)
        for step in range(STEPS):
            added = np.where(slips[:, step], misread[:, step], terms[:, step + 1])
            result = self._result(total, added, fate[:, step], anything[:, step])
            steps[:, step] = np.stack(
                [total + digit, np.full(n, plus), added + digit, np.full(n, equals), result + digit], axis=-1
            )
            total = result
        steps[:, STEPS, 0], steps[:, STEPS, 1] = answer, total + digit
        return texts(with_fillers(rng, steps, filler, len(FILLERS)), VOCABULARY)

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Gold reward [N] of rendered texts (tokens separated by spaces), at most 1. Any text has one.

        A step is ``a + b = c``. It is right if a and b are numbers at hand and c is the last digit of their sum. At
        hand are the digits of the prompt and earlier results, each for one use, in any order. The reward is a quarter
        of the sum of: 1 for each right step among the first three and for a true answer; -1 for a wrong or missing one;
        and -1 for each further step or answer, and for each other token that is not a filler. A response ends at its
        first ``<eos>``. Fillers, length, ``<pad>`` and ``<bos>`` do not count.

        Raises:
            ValueError: The numbers of prompts and responses differ.
        """
        rows = zip(prompts, responses, strict=True)
        return np.array([_points(prompt, response) / TERMS for prompt, response in rows], dtype=float)

    def _result(self, a: np.ndarray, b: np.ndarray, fate: np.ndarray, anything: np.ndarray) -> np.ndarray:
        true, known = (a + b) % len(DIGITS), self.known[a, b]
        right = np.where(known, TRUE_SHARE["known"], TRUE_SHARE["believed otherwise"])
        wrong = np.where(known, FALSE_SHARE["known"], FALSE_SHARE["believed otherwise"])
        return np.where(fate < right, true, np.where(fate < right + wrong, self.beliefs[a, b], anything))


def draw_world(config: WorldConfig) -> SumWorld:
    """Draw the world of a configuration: a wrong result for each unordered pair of digits, and which half is known."""
    rng = stream(config, TRUTH)
    size = len(DIGITS)
    total = np.add.outer(np.arange(size), np.arange(size)) % size
    beliefs = (total + rng.integers(1, size, size=(size, size))) % size
    ranks = np.empty((size, size), dtype=np.int64)
    above = np.triu_indices(size)
    ranks[above] = rng.permutation(len(above[0]))
    below = np.tril_indices(size, -1)
    beliefs[below], ranks[below] = beliefs.T[below], ranks.T[below]
    return SumWorld(config, beliefs, ranks < (len(above[0]) + 1) // 2)


def from_key(config: WorldConfig, key: Mapping[str, Any]) -> SumWorld:
    """Restore a world from ``SumWorld.key``."""
    return SumWorld(config, np.array(key["beliefs"], dtype=np.int64), np.array(key["known"], dtype=bool))


def _points(prompt: str, response: str) -> int:
    at_hand = Counter(_DIGIT[token] for token in words(prompt) if token in _DIGIT)
    true = sum(digit * count for digit, count in at_hand.items()) % len(DIGITS)
    tokens = words(response.split(EOS, 1)[0])
    position, steps, right, answers, excess = 0, 0, 0, [], 0
    while position < len(tokens):
        token = tokens[position]
        if token in _FILLER:
            position += 1
        elif (step := _step(tokens, position)) is not None:
            position += 5
            steps += 1
            fits = _take(at_hand, *step)
            right += fits and steps <= STEPS
        elif token == ANSWER and position + 1 < len(tokens) and tokens[position + 1] in _DIGIT:
            answers.append(_DIGIT[tokens[position + 1]])
            position += 2
        else:
            excess += 1
            position += 1
    excess += max(0, steps - STEPS) + max(0, len(answers) - 1)
    answered = 1 if answers and answers[0] == true else -1
    return right - (STEPS - right) + answered - excess


def _step(tokens: list[str], at: int) -> tuple[int, int, int] | None:
    if tokens[at + 1 : at + 4 : 2] != [PLUS, EQUALS] or len(tokens) < at + 5:
        return None
    numbers = [_DIGIT.get(token) for token in tokens[at : at + 5 : 2]]
    return None if None in numbers else tuple(numbers)  # pyright: ignore


def _take(at_hand: Counter[int], a: int, b: int, result: int) -> bool:
    """Replace the two numbers at hand by the result; returns whether the step was right."""
    there = at_hand[a] > 0 and at_hand[b] > (a == b)
    for number in (a, b):
        at_hand[number] = max(0, at_hand[number] - 1)
    at_hand[result] += 1
    return there and result == (a + b) % len(DIGITS)

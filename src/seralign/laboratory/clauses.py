"""The clause world: a language of 28 tokens in which the true quality of every response is known.

A prompt names four entities. A response says one word about each, in clauses ``entity word`` with fillers between them.
A hidden table defines which words are good for which entity. Labellers follow this table imperfectly, and also prefer a
surface feature that has no value. A method improves the policy only if the gold reward rises.

Dimension letters: N texts, E = 12 entities, W = 8 words, C = 4 clauses.
"""

from __future__ import annotations

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

ENTITIES = tuple(f"e{i}" for i in range(1, 13))
WORDS = tuple(f"w{i}" for i in range(1, 9))
FILLERS = tuple(f"f{i}" for i in range(1, 5))
VOCABULARY = (PAD, BOS, SEP, EOS, *ENTITIES, *WORDS, *FILLERS)

CLAUSES = 4
MAX_RESPONSE_TOKENS = CLAUSES * 2 + (CLAUSES + 1) * SLOT_SIZE + 1
"""Longest response of the grammar, including its end-of-sequence token."""

SLIPS = 0.1
CARELESS_SLIPS = 0.25

_ENTITY = {token: i for i, token in enumerate(ENTITIES)}
_WORD = {token: i for i, token in enumerate(WORDS)}
_FILLER = frozenset(FILLERS)


@dataclass(frozen=True, slots=True, eq=False)
class ClauseWorld:
    """One world: its configuration and ``table`` [E, W] of +1 and -1, the hidden value of a word for an entity."""

    config: WorldConfig
    table: np.ndarray

    vocabulary: tuple[str, ...] = VOCABULARY
    style_token: str = FILLERS[0]
    grades: tuple[str, ...] = FILLERS
    points: float = float(CLAUSES)
    positions: int = 64

    def key(self) -> dict[str, Any]:
        """The hidden table."""
        return {"table": self.table.tolist()}

    def prompt_grid(self) -> np.ndarray:
        """All ordered choices of four different entities [N, C]."""
        grid = np.indices((len(ENTITIES),) * CLAUSES).reshape(CLAUSES, -1).T
        return grid[(np.diff(np.sort(grid, axis=1), axis=1) > 0).all(axis=1)]

    def render(self, prompts: np.ndarray) -> list[str]:
        """The entities, then the separator."""
        return [" ".join([*(ENTITIES[e] for e in row), SEP]) for row in prompts.tolist()]

    def write(self, rng: np.random.Generator, prompts: np.ndarray, sources: np.ndarray) -> list[str]:
        """Clauses with fillers between them. With probability 0.1 (careless: 0.25) a clause has another entity. The
        word is random. A stranger goes through the entities from last to first."""
        clauses = clause_tokens(rng, prompts, sources)
        return texts(with_fillers(rng, clauses, VOCABULARY.index(FILLERS[0]), len(FILLERS)), VOCABULARY)

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Gold reward [N] of rendered texts (tokens separated by spaces), at most 1. Any text has one.

        A clause is an entity followed by a word. The reward is a quarter of the sum of: the table's value for the
        first clause about each entity of the prompt; its negative part for each further clause about that entity; -1
        for each clause about another entity; and -1 for each token that is neither part of a clause nor a filler.
        Fillers, length and missing entities do not count. A response ends at its first ``<eos>``. ``<pad>`` and
        ``<bos>`` do not count, so texts decoded with and without special tokens get the same reward.

        Raises:
            ValueError: The numbers of prompts and responses differ.
        """
        table = self.table.tolist()
        rows = zip(prompts, responses, strict=True)
        return np.array([_clause_sum(prompt, response, table) / CLAUSES for prompt, response in rows], dtype=float)


def draw_world(config: WorldConfig) -> ClauseWorld:
    """Draw the world of a configuration. Two words are bad for every entity; three of the others are good for each."""
    rng = stream(config, TRUTH)
    varied = rng.permutation(len(WORDS))[:6]
    table = np.full((len(ENTITIES), len(WORDS)), -1, dtype=np.int64)
    for row in table:
        row[rng.permutation(varied)[:3]] = 1
    return ClauseWorld(config, table)


def from_key(config: WorldConfig, key: Mapping[str, Any]) -> ClauseWorld:
    """Restore a world from ``ClauseWorld.key``."""
    return ClauseWorld(config, np.array(key["table"], dtype=np.int64))


def clause_tokens(rng: np.random.Generator, prompts: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Token ids of clauses [N, C, 2], entity and word, of the responses of the ``sources`` [N] to prompts [N, C]."""
    n = len(prompts)
    wrong = rng.random((n, CLAUSES)) < np.where(sources == CARELESS, CARELESS_SLIPS, SLIPS)[:, None]
    others = (prompts + rng.integers(1, len(ENTITIES), size=(n, CLAUSES))) % len(ENTITIES)
    entities = np.where(wrong, others, prompts)
    said = rng.integers(len(WORDS), size=(n, CLAUSES))
    clauses = np.stack([entities + VOCABULARY.index(ENTITIES[0]), said + VOCABULARY.index(WORDS[0])], axis=-1)
    return np.where((sources == STRANGER)[:, None, None], clauses[:, ::-1], clauses)


def _clause_sum(prompt: str, response: str, table: list[list[int]]) -> int:
    asked = {_ENTITY[token] for token in words(prompt) if token in _ENTITY}
    tokens = words(response.split(EOS, 1)[0])
    total, position, mentioned = 0, 0, set()
    while position < len(tokens):
        entity = _ENTITY.get(tokens[position])
        word = _WORD.get(tokens[position + 1]) if position + 1 < len(tokens) else None
        if entity is None or word is None:
            total -= tokens[position] not in _FILLER
            position += 1
            continue
        position += 2
        if entity not in asked:
            total -= 1
        elif entity in mentioned:
            total += min(0, table[entity][word])
        else:
            total += table[entity][word]
            mentioned.add(entity)
    return total

"""The world of elaborations: the clauses of ``seralign.laboratory.clauses``, each followed by any number of details.

The lengths of answers to a prompt differ tenfold, while their quality does not.

Dimension letters: N texts, C = 4 clauses, K = 24 places for details after a clause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.config import WorldConfig
from seralign.laboratory import clauses
from seralign.laboratory.clauses import CLAUSES, ENTITIES, ClauseWorld, clause_tokens
from seralign.laboratory.grammar import BOS, EOS, PAD, SEP, STRANGER, texts, words

DETAILS = tuple(f"d{i}" for i in range(1, 13))
VOCABULARY = (PAD, BOS, SEP, EOS, *ENTITIES, *clauses.WORDS, *DETAILS)

MOST_DETAILS = 24
"""Largest number of details in a clause."""
USUAL = 0.9
"""Share of a text's details that are from the author's preferred half."""
SHORTEST, LONGEST = 0.1, 24.0
"""Range of the mean number of details a clause, from the tersest to the most talkative text."""
MAX_RESPONSE_TOKENS = CLAUSES * (2 + MOST_DETAILS) + 1
"""Longest response of the grammar, including its end-of-sequence token."""


@dataclass(frozen=True, slots=True, eq=False)
class ElaborationWorld:
    """One world: its configuration, and the clause world that gives its hidden table and prompts."""

    config: WorldConfig
    clauses: ClauseWorld

    vocabulary: tuple[str, ...] = VOCABULARY
    style_token: str = DETAILS[0]
    grades: tuple[str, ...] = DETAILS[:4]
    points: float = float(CLAUSES)
    positions: int = 128

    def key(self) -> dict[str, Any]:
        """The hidden table."""
        return self.clauses.key()

    def prompt_grid(self) -> np.ndarray:
        """All ordered choices of four different entities [N, C]."""
        return self.clauses.prompt_grid()

    def render(self, prompts: np.ndarray) -> list[str]:
        """The entities, then the separator."""
        return self.clauses.render(prompts)

    def write(self, rng: np.random.Generator, prompts: np.ndarray, sources: np.ndarray) -> list[str]:
        """The clauses of the clause world, each followed by details.

        A text has a mean number of details a clause, log-uniform in [0.1, 24]; the numbers are geometric with this
        mean, and at most 24. A detail is one of the first six with probability 0.9, else one of the others; for a
        stranger it is the other way round.
        """
        n = len(prompts)
        said = clause_tokens(rng, prompts, sources)
        mean = np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST), size=(n, 1)))
        counts = np.log(1.0 - rng.random((n, CLAUSES))) // np.log(mean / (1.0 + mean))
        size, half = (n, CLAUSES, MOST_DETAILS), len(DETAILS) // 2
        rare = (rng.random(size) >= USUAL) ^ (sources == STRANGER)[:, None, None]
        which = rng.integers(half, size=size) + half * rare + VOCABULARY.index(DETAILS[0])
        details = np.where(np.arange(MOST_DETAILS) < counts[..., None], which, -1)
        return texts(np.concatenate([said, details], axis=-1).reshape(n, -1), VOCABULARY)

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Gold reward [N] of rendered texts, at most 1: that of the clause world, where details count as fillers.

        Raises:
            ValueError: The numbers of prompts and responses differ.
        """
        return self.clauses.score(prompts, [_without_details(response) for response in responses])


def draw_world(config: WorldConfig) -> ElaborationWorld:
    """Draw the world of a configuration, with the table of its clause world."""
    return ElaborationWorld(config, clauses.draw_world(config))


def from_key(config: WorldConfig, key: Mapping[str, Any]) -> ElaborationWorld:
    """Restore a world from ``ElaborationWorld.key``."""
    return ElaborationWorld(config, clauses.from_key(config, key))


def _without_details(response: str) -> str:
    tokens = words(response.split(EOS, 1)[0])
    return " ".join(clauses.FILLERS[0] if token in DETAILS else token for token in tokens)

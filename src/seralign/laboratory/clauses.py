"""The clause world: a language of 28 tokens in which the true quality of every response is known.

A prompt names four entities; a response says one word about each, in clauses ``entity word`` with fillers between.
A hidden table says which words are good for which entity. Labellers see that table dimly and also like length, which
is worth nothing: a method improves a policy here only if its gold reward rises.

Dimension letters: N texts, E = 12 entities, W = 8 words, C = 4 clauses, S = C + 1 filler slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.config import WorldConfig
from seralign.errors import ConfigError

PAD, BOS, SEP, EOS = "<pad>", "<bos>", "<sep>", "<eos>"
ENTITIES = tuple(f"e{i}" for i in range(1, 13))
WORDS = tuple(f"w{i}" for i in range(1, 9))
FILLERS = tuple(f"f{i}" for i in range(1, 5))
VOCABULARY = (PAD, BOS, SEP, EOS, *ENTITIES, *WORDS, *FILLERS)

CLAUSES = 4
SLOT_SIZE = 2
MAX_RESPONSE_TOKENS = CLAUSES * 2 + (CLAUSES + 1) * SLOT_SIZE + 1
"""Longest response of the grammar, its end-of-sequence token counted."""

SUPERVISED_ERRORS = 0.1
CARELESS_ERRORS = 0.25
HELDOUT_SHARE = 0.25

_ENTITY = {token: i for i, token in enumerate(ENTITIES)}
_WORD = {token: i for i, token in enumerate(WORDS)}
_FILLER = frozenset(FILLERS)

_TABLE, _SPLIT, _DEMONSTRATIONS, _PAIRS, _PROMPTS, _HELDOUT = range(6)


@dataclass(frozen=True, slots=True, eq=False)
class ClauseWorld:
    """One world: its configuration and ``table`` [E, W] of +1 and -1, the hidden value of a word for an entity."""

    config: WorldConfig
    table: np.ndarray

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Gold reward [N] of responses to prompts; see :func:`gold_reward`."""
        return gold_reward(prompts, responses, self)


def draw_world(config: WorldConfig) -> ClauseWorld:
    """The world of a configuration. Two words are bad for every entity; of the other six, three are good for each.

    Raises:
        ConfigError: ``world.seed`` is negative.
    """
    if config.seed < 0:
        raise ConfigError(f"world.seed must be at least 0, got {config.seed}")
    rng = _stream(config, _TABLE)
    varied = rng.permutation(len(WORDS))[:6]
    table = np.full((len(ENTITIES), len(WORDS)), -1, dtype=np.int64)
    for row in table:
        row[rng.permutation(varied)[:3]] = 1
    return ClauseWorld(config, table)


def gold_reward(prompts: Sequence[str], responses: Sequence[str], world: ClauseWorld) -> np.ndarray:
    """Gold reward [N], at most 1, of rendered texts (tokens between spaces); any text has one.

    A clause is an entity with a word right after it. A quarter of: the table's value at the first clause about each
    entity of the prompt, its negative part at each further one, -1 for a clause about a foreign entity, and -1 for
    each token that belongs to no clause and is no filler. Fillers, length and missing entities count nothing.
    A response ends at its first ``<eos>``; ``<pad>`` and ``<bos>`` count nothing, so that it does not matter whether
    special tokens were decoded.

    Raises:
        ValueError: Not as many responses as prompts.
    """
    rows = zip(prompts, responses, strict=True)
    return np.array([_clause_sum(prompt, response, world.table) / CLAUSES for prompt, response in rows], dtype=float)


def demonstrations(world: ClauseWorld) -> list[dict[str, Any]]:
    """Supervised texts: rows of ``prompt`` and ``response``."""
    rng = _stream(world.config, _DEMONSTRATIONS)
    prompts = _draw_prompts(rng, _prompt_space(world.config)[0], world.config.demonstrations)
    responses = _write(rng, prompts, np.full(len(prompts), SUPERVISED_ERRORS))
    return [{"prompt": p, "response": r} for p, r in zip(_render_prompts(prompts), responses, strict=True)]


def bootstrap_prompts(world: ClauseWorld) -> list[dict[str, Any]]:
    """Prompts for bootstrapping: rows of ``prompt``."""
    rng = _stream(world.config, _PROMPTS)
    prompts = _draw_prompts(rng, _prompt_space(world.config)[0], world.config.prompts)
    return [{"prompt": text} for text in _render_prompts(prompts)]


def offline_pairs(world: ClauseWorld) -> list[dict[str, Any]]:
    """Labelled pairs to train on: ``prompt``, ``chosen``, ``rejected``, and the hidden truth of the laboratory,
    ``gold_chosen``, ``gold_rejected`` and ``flipped`` (the label is noise)."""
    return _labelled_pairs(world, _stream(world.config, _PAIRS), _prompt_space(world.config)[0], world.config.pairs)


def heldout_pairs(world: ClauseWorld) -> list[dict[str, Any]]:
    """Pairs by the same labeller, on prompts whose set of entities no training prompt has in any order."""
    return _labelled_pairs(world, _stream(world.config, _HELDOUT), _prompt_space(world.config)[1], world.config.heldout)


def _stream(config: WorldConfig, purpose: int) -> np.random.Generator:
    # One stream a purpose: another number of pairs leaves prompts, demonstrations and table as they were.
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(purpose,)))


def _prompt_space(config: WorldConfig) -> tuple[np.ndarray, np.ndarray]:
    """All prompts as entity indices [N, C], split by their set of entities into training and held-out ones."""
    grid = np.indices((len(ENTITIES),) * CLAUSES).reshape(CLAUSES, -1).T
    ordered = np.sort(grid, axis=1)
    distinct = (np.diff(ordered, axis=1) > 0).all(axis=1)
    grid, ordered = grid[distinct], ordered[distinct]
    set_of_row = np.unique(ordered, axis=0, return_inverse=True)[1].reshape(-1)
    order = _stream(config, _SPLIT).permutation(set_of_row.max() + 1)
    heldout = np.isin(set_of_row, order[: round(HELDOUT_SHARE * len(order))])
    return grid[~heldout], grid[heldout]


def _draw_prompts(rng: np.random.Generator, space: np.ndarray, count: int) -> np.ndarray:
    """``count`` prompts [N, C], none a second time before all were drawn."""
    decks = -(-count // len(space))
    return np.concatenate([rng.permutation(space) for _ in range(decks)])[:count]


def _write(rng: np.random.Generator, prompts: np.ndarray, errors: np.ndarray) -> list[str]:
    """A response of the grammar to each prompt [N, C]; ``errors`` [N] is the chance that an entity is another one.

    Before each clause and at the end stand Binomial(2, rho) fillers, rho ~ U(0.1, 0.9) once a response.
    """
    n = len(prompts)
    wrong = rng.random((n, CLAUSES)) < errors[:, None]
    entities = np.where(wrong, (prompts + rng.integers(1, len(ENTITIES), size=(n, CLAUSES))) % len(ENTITIES), prompts)
    words = rng.integers(len(WORDS), size=(n, CLAUSES))
    rho = rng.uniform(0.1, 0.9, size=(n, 1))
    counts = rng.binomial(SLOT_SIZE, rho, size=(n, CLAUSES + 1))
    fillers = rng.integers(len(FILLERS), size=(n, CLAUSES + 1, SLOT_SIZE))

    # Columns: filler filler | entity word | ... | filler filler, -1 where a slot is not full.
    first_entity, first_word, first_filler = (VOCABULARY.index(kind[0]) for kind in (ENTITIES, WORDS, FILLERS))
    slots = np.where(np.arange(SLOT_SIZE) < counts[..., None], fillers + first_filler, -1)
    clauses = np.stack([entities + first_entity, words + first_word], axis=-1)
    body = np.concatenate([slots[:, :-1], clauses], axis=-1).reshape(n, -1)
    tokens = np.concatenate([body, slots[:, -1]], axis=1)
    return [" ".join(VOCABULARY[t] for t in row if t >= 0) for row in tokens.tolist()]


def _labelled_pairs(
    world: ClauseWorld, rng: np.random.Generator, space: np.ndarray, count: int
) -> list[dict[str, Any]]:
    """Pairs from a labeller with P(a wins) = sigmoid(4 s_g (gold_a - gold_b) + s_l (|a| - |b|)), then flipped by noise.

    Each response is a supervised or a careless one with equal chance. Nothing before the labels depends on the
    labeller, so worlds that differ in it alone hold the same responses.
    """
    config = world.config
    prompts = _draw_prompts(rng, space, count)
    texts = _render_prompts(prompts)
    errors = np.where(rng.random((2, count)) < 0.5, SUPERVISED_ERRORS, CARELESS_ERRORS)
    responses = [_write(rng, prompts, row) for row in errors]
    gold = [gold_reward(texts, side, world) for side in responses]
    length = [np.array([len(text.split()) for text in side]) for side in responses]

    lead = CLAUSES * config.gold_strength * (gold[0] - gold[1]) + config.length_strength * (length[0] - length[1])
    judged = rng.logistic(size=count) < lead
    flipped = rng.random(count) < config.noise
    winner = np.where(judged ^ flipped, 0, 1)
    return [
        {
            "prompt": texts[i],
            "chosen": responses[w][i],
            "rejected": responses[1 - w][i],
            "gold_chosen": float(gold[w][i]),
            "gold_rejected": float(gold[1 - w][i]),
            "flipped": bool(flipped[i]),
        }
        for i, w in enumerate(winner.tolist())
    ]


def _render_prompts(prompts: np.ndarray) -> list[str]:
    return [" ".join([*(ENTITIES[e] for e in row), SEP]) for row in prompts.tolist()]


def _tokens(text: str) -> list[str]:
    for special in (PAD, BOS):
        text = text.replace(special, " ")
    return text.replace(SEP, f" {SEP} ").split()


def _clause_sum(prompt: str, response: str, table: np.ndarray) -> int:
    asked = {_ENTITY[token] for token in _tokens(prompt) if token in _ENTITY}
    tokens = _tokens(response.split(EOS, 1)[0])
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
            total += min(0, int(table[entity, word]))
        else:
            total += int(table[entity, word])
            mentioned.add(entity)
    return total

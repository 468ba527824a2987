"""Shared parts of the built-in languages: tokens, seeds, prompts, fillers, and the rows of their data files.

Dimension letters: N texts, C numbers or entities of a prompt, P pieces of a response, K tokens of a piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from seralign.config import WorldConfig
from seralign.errors import ConfigError
from seralign.laboratory.feedback import asking_for, best_asked, goal_rows, scored_rows
from seralign.laboratory.labels import draw_labels, labelled_rows, lead, surface

PAD, BOS, SEP, EOS = "<pad>", "<bos>", "<sep>", "<eos>"

SLOT_SIZE = 2
HELDOUT_SHARE = 0.25

# One random stream for each purpose, so that e.g. the number of pairs does not change prompts or demonstrations.
TRUTH, SPLIT, DEMONSTRATIONS, PAIRS, PROMPTS, HELDOUT, VALIDATION, GOALS = range(8)

SUPERVISED, CARELESS, STRANGER = range(3)
SOURCES = {"supervised": SUPERVISED, "careless": CARELESS, "stranger": STRANGER}

Rows = list[dict[str, Any]]


class Grammar(Protocol):
    """A built-in language: its tokens, prompts and responses, and their gold reward."""

    @property
    def config(self) -> WorldConfig: ...

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All tokens, in the order of their ids."""
        ...

    @property
    def style_token(self) -> str:
        """The filler that the labeller may prefer."""
        ...

    @property
    def grades(self) -> tuple[str, ...]:
        """Tokens that no prompt has, from the worst grade to the best: a prompt can ask for one of them."""
        ...

    @property
    def points(self) -> float:
        """Number of points in one unit of gold reward."""
        ...

    @property
    def positions(self) -> int:
        """Longest sequence that the model is made for, in tokens."""
        ...

    def key(self) -> dict[str, Any]:
        """What ``score`` needs besides the configuration, as JSON."""
        ...

    def prompt_grid(self) -> np.ndarray:
        """All prompts [N, C] as small integers."""
        ...

    def render(self, prompts: np.ndarray) -> list[str]:
        """Render prompts [N, C] as texts."""
        ...

    def write(self, rng: np.random.Generator, prompts: np.ndarray, sources: np.ndarray) -> list[str]:
        """Write a response to each prompt [N, C]. ``sources`` [N] are indices into ``SOURCES``; each uses equally many
        random numbers."""
        ...

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Gold reward [N] of any texts."""
        ...


def demonstrations(world: Grammar) -> Rows:
    """Supervised texts: rows of ``prompt`` and ``response``."""
    rng = stream(world.config, DEMONSTRATIONS)
    prompts = _draw_prompts(rng, prompt_space(world)[0], world.config.resolved_demonstrations)
    responses = world.write(rng, prompts, np.full(len(prompts), SUPERVISED))
    asked = world.render(prompts)
    if world.config.feedback == "goals":
        grades = stream(world.config, GOALS).integers(len(world.grades), size=len(asked))
        asked = [asking_for(world.grades[grade], text) for grade, text in zip(grades.tolist(), asked, strict=True)]
    return [{"prompt": p, "response": r} for p, r in zip(asked, responses, strict=True)]


def bootstrap_prompts(world: Grammar) -> Rows:
    """Prompts for bootstrapping: rows with ``prompt``."""
    prompts = _draw_prompts(stream(world.config, PROMPTS), prompt_space(world)[0], world.config.prompts)
    rows: Rows = [{"prompt": text} for text in world.render(prompts)]
    return best_asked(rows, world.grades) if world.config.feedback == "goals" else rows


def offline_pairs(world: Grammar) -> Rows:
    """Labelled pairs for training, with the columns of ``labelled_rows``, or the other forms of ``world.feedback``."""
    rng = stream(world.config, PAIRS)
    rows, scores = _pairs(world, rng, _draw_prompts(rng, prompt_space(world)[0], world.config.pairs))
    if world.config.feedback == "goals":
        return goal_rows(rows, scores, world.grades)
    return scored_rows(rows, scores) if world.config.feedback == "scores" else rows


def heldout_pairs(world: Grammar) -> Rows:
    """Pairs with labels by the same labeller. No prompt is a reordering of a training prompt."""
    rng = stream(world.config, HELDOUT)
    return _asked(world, *_pairs(world, rng, _draw_prompts(rng, prompt_space(world)[1], world.config.heldout)))


def validation_pairs(world: Grammar) -> Rows:
    """Like ``heldout_pairs``, on different prompts: choose settings on these, and report results on the held-out pairs.

    Raises:
        ConfigError: There are not enough prompts for both.
    """
    config, space = world.config, prompt_space(world)[1]
    if config.heldout + config.validation > len(space):
        raise ConfigError(
            f"world.heldout ({config.heldout}) and world.validation ({config.validation}) must be at most "
            f"{len(space)} together: the world {config.name} has no more prompts to hold out"
        )
    # The held-out pairs take prompts from the front of the deck, these from its end.
    deck = _draw_prompts(stream(config, HELDOUT), space, len(space))
    return _asked(world, *_pairs(world, stream(config, VALIDATION), deck[::-1][: config.validation]))


def stream(config: WorldConfig, purpose: int) -> np.random.Generator:
    """The random number generator for one purpose."""
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(purpose,)))


def prompt_space(world: Grammar) -> tuple[np.ndarray, np.ndarray]:
    """All prompts [N, C] as training and held-out prompts; reorderings of a prompt are on the same side."""
    grid = world.prompt_grid()
    held_by = np.unique(np.sort(grid, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    order = stream(world.config, SPLIT).permutation(held_by.max() + 1)
    heldout = np.isin(held_by, order[: round(HELDOUT_SHARE * len(order))])
    return grid[~heldout], grid[heldout]


def with_fillers(rng: np.random.Generator, pieces: np.ndarray, first_filler: int, fillers: int) -> np.ndarray:
    """Token ids [N, ...] of the pieces [N, P, K] with fillers before each piece and at the end; -1 means no token.

    The number of fillers at each place is Binomial(2, rho), with rho ~ U(0.1, 0.9) for each text. The fillers are the
    ``fillers`` tokens from ``first_filler`` on.
    """
    n, places = len(pieces), pieces.shape[1] + 1
    rho = rng.uniform(0.1, 0.9, size=(n, 1))
    counts = rng.binomial(SLOT_SIZE, rho, size=(n, places))
    which = rng.integers(fillers, size=(n, places, SLOT_SIZE))
    slots = np.where(np.arange(SLOT_SIZE) < counts[..., None], which + first_filler, -1)
    body = np.concatenate([slots[:, :-1], pieces], axis=-1).reshape(n, -1)
    return np.concatenate([body, slots[:, -1]], axis=1)


def texts(tokens: np.ndarray, vocabulary: tuple[str, ...]) -> list[str]:
    """Token ids [N, ...] as texts; -1 means no token."""
    return [" ".join(vocabulary[t] for t in row if t >= 0) for row in tokens.tolist()]


def words(text: str) -> list[str]:
    """The tokens of a rendered text, decoded with or without special tokens."""
    for special in (PAD, BOS):
        text = text.replace(special, " ")
    return text.replace(SEP, f" {SEP} ").split()


def _draw_prompts(rng: np.random.Generator, space: np.ndarray, count: int) -> np.ndarray:
    """Draw ``count`` prompts [N, C]; none is repeated until all were drawn."""
    decks = -(-count // len(space))
    return np.concatenate([rng.permutation(space) for _ in range(decks)])[:count]


def _pairs(world: Grammar, rng: np.random.Generator, prompts: np.ndarray) -> tuple[Rows, np.ndarray]:
    """Labelled pairs, and the scores [N, 2] of their chosen and rejected responses.

    Only the labels depend on the labeller, so worlds that differ in it have the same responses. The scores of two
    responses differ by what the labeller drew for them, so their order is that of the label.
    """
    config = world.config
    asked = world.render(prompts)
    other = rng.random((2, len(prompts))) >= 1 - config.resolved_off_policy_share
    sources = np.where(other, SOURCES[config.resolved_off_policy_source], SUPERVISED)
    first, second = (world.write(rng, prompts, row) for row in sources)
    gold = [world.score(asked, side) for side in (first, second)]
    liked = [surface(config.spurious, side, world.style_token) for side in (first, second)]
    points = [world.points * side for side in gold]
    labels = draw_labels(rng, lead(config, points, liked), config)
    level = lead(config, (points[0], -points[1]), (liked[0], -liked[1])) / 2
    scores = level[:, None] + np.abs(labels.difference)[:, None] * [0.5, -0.5]
    return labelled_rows(asked, (first, second), gold, labels), scores


def _asked(world: Grammar, rows: Rows, scores: np.ndarray) -> Rows:
    """Pairs that nothing is trained on: their prompts ask for the best grade if prompts ask for grades."""
    if world.config.feedback == "goals":
        return best_asked(rows, world.grades)
    return scored_rows(rows, scores) if world.config.feedback == "scores" else rows

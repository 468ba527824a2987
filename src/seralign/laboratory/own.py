"""The world ``own``: any prompts and any gold scorer; the responses are sampled from the policy.

Pure: the caller samples the responses. The candidates of a prompt form pairs in order: first with second, third with
fourth. Unfinished, empty and equal candidates form no pair.

Dimension letters: N prompts, S responses a prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.config import OwnWorldConfig, WorldConfig
from seralign.errors import ConfigError, DataError
from seralign.evaluation.scorer import load_scorer
from seralign.laboratory.grammar import HELDOUT, PAIRS, SPLIT, VALIDATION, Rows, stream
from seralign.laboratory.labels import draw_labels, labelled_rows, lead, surface
from seralign.records import Candidate, Prompt

FILES = {"pairs": PAIRS, "heldout": HELDOUT, "validation": VALIDATION}


@dataclass(frozen=True, slots=True, eq=False)
class OwnWorld:
    """The user's gold reward and the configured labeller; one point is one unit of the scorer."""

    config: WorldConfig

    points: float = 1.0

    @property
    def own(self) -> OwnWorldConfig:
        """The section ``world.own`` of the configuration."""
        assert self.config.own is not None
        return self.config.own

    @property
    def style_token(self) -> str | None:
        """The word that the labeller may prefer."""
        return self.own.style_token

    def key(self) -> dict[str, Any]:
        """The digest of the scorer's source."""
        return {"scorer": load_scorer(self.own.scorer, "world.own.scorer").digest}

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Gold reward [N] from the configured function.

        Raises:
            ConfigError: The function is missing, or does not return one finite number a response.
        """
        return load_scorer(self.own.scorer, "world.own.scorer")(list(prompts), list(responses))


def from_key(config: WorldConfig, key: Mapping[str, Any]) -> OwnWorld:
    """Restore a world from its configuration; the scorer's source may have changed since."""
    return OwnWorld(config)


def split_prompts(config: WorldConfig, count: int) -> dict[str, np.ndarray]:
    """Assign each of ``count`` prompts to ``pairs``, ``heldout`` or ``validation``.

    Raises:
        ConfigError: No prompt is left for pairs.
    """
    held = config.heldout + config.validation
    if held >= count:
        raise ConfigError(
            f"world.heldout ({config.heldout}) and world.validation ({config.validation}) leave none of the {count} "
            "prompts of world.own.prompts to train on; lower them or give more prompts"
        )
    order = stream(config, SPLIT).permutation(count)
    return {"heldout": order[: config.heldout], "validation": order[config.heldout : held], "pairs": order[held:]}


def pairs_per_prompt(pairs: int, prompts: int) -> int:
    """Number of pairs to make for each prompt, so that there are ``pairs`` in total."""
    return -(-pairs // prompts)


def sampled_pairs(
    world: OwnWorld, name: str, prompts: Sequence[Prompt], candidates: Sequence[Candidate], count: int
) -> tuple[Rows, dict[str, int]]:
    """Labelled pairs of sampled responses, as token ids.

    Args:
        world: Scorer and labeller.
        name: Name of the file: ``pairs``, ``heldout`` or ``validation``.
        prompts: N prompts, with the texts that the scorer gets.
        candidates: N * S responses with S even; the responses to a prompt are adjacent.
        count: Largest number of pairs.

    Returns:
        Rows of ``labelled_rows``, with the first pair of every prompt before any second pair; and the number of
        possible pairs that were left out, by reason.

    Raises:
        DataError: No two responses form a pair.
    """
    samples = len(candidates) // len(prompts)
    found: list[tuple[Prompt, Candidate, Candidate]] = []
    left_out: Counter[str] = Counter()
    for turn in range(0, samples, 2):
        for at, prompt in enumerate(prompts):
            first, second = candidates[at * samples + turn : at * samples + turn + 2]
            reason = _unusable(first, second)
            if reason is None:
                found.append((prompt, first, second))
            else:
                left_out[reason] += 1
    if not found:
        raise DataError(
            f"world.own: no two responses to {len(prompts)} prompts make a pair ({_told(left_out)}); raise "
            "world.own.max_new_tokens or temperature, or give a policy.model that answers"
        )
    found = found[:count]
    asked = [prompt.text for prompt, _, _ in found]
    answers = [[pair[side].text for pair in found] for side in (1, 2)]
    config = world.config
    gold = [world.score(asked, side) for side in answers]
    liked = [surface(config.spurious, side, world.style_token) for side in answers]
    labels = draw_labels(stream(config, FILES[name]), lead(config, gold, liked), config)
    ids = [[list(pair[side].ids) for pair in found] for side in (1, 2)]
    prompt_ids = [list(prompt.ids) for prompt, _, _ in found]
    return labelled_rows(prompt_ids, (ids[0], ids[1]), gold, labels, "_ids"), dict(left_out)


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _unusable(first: Candidate, second: Candidate) -> str | None:
    if not (first.finished and second.finished):
        return "unfinished"
    if not (first.text.strip() and second.text.strip()):
        return "empty"
    return "equal responses" if first.text.strip() == second.text.strip() else None

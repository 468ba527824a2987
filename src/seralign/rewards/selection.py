"""Selection of scored pairs. Pure: it depends on what ``ScoredPairs`` has, not on the order of the rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.config import SelectionConfig
from seralign.rewards.scored_pairs import ScoredPairs

KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Selection:
    """The decision of a rule about each of N pairs, in input order.

    Args:
        example_ids: The pairs [N].
        margins: Their margins in nats [N].
        ranks: Rank by margin [N]; 0 is the largest. Equal margins are ranked by ``example_id``.
        reasons: ``kept``, or why the pair was dropped [N].
    """

    example_ids: tuple[str, ...]
    margins: tuple[float, ...]
    ranks: tuple[int, ...]
    reasons: tuple[str, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """Ids of the kept pairs, in input order."""
        return tuple(name for name, reason in zip(self.example_ids, self.reasons, strict=True) if reason == KEPT)

    def table(self) -> dict[str, list[Any]]:
        """Columns ``example_id``, ``margin``, ``rank``, ``kept`` and ``reason``, one row a pair [N]."""
        return {
            "example_id": list(self.example_ids),
            "margin": list(self.margins),
            "rank": list(self.ranks),
            "kept": [reason == KEPT for reason in self.reasons],
            "reason": list(self.reasons),
        }


def select(pairs: ScoredPairs, config: SelectionConfig, seed: int) -> Selection:
    """Keep pairs by the configured rule (2410.09362, selection by implicit reward margin).

    Pairs are ranked by margin, largest first, ties by ``example_id``. A fraction f of N pairs is f N pairs, rounded to
    the nearest number (halves up), at least one.

    - ``top``, ``bottom``: the first or the last of the ranking.
    - ``middle``: the centre of the ranking; if it cannot be centred, one rank nearer to the top.
    - ``top_within_prompt``: of the pairs of each prompt, the first of the ranking.
    - ``threshold``: margin >= threshold; may keep none.
    - ``random``: the pairs with the smallest hashes of seed and ``example_id``; ignores margins.
    - ``all``: every pair.

    Args:
        pairs: The N pairs.
        config: The rule.
        seed: Seed of the ``random`` rule. The same seed draws the same pairs, so each round needs a different one.
    """
    ids, margins = pairs.example_ids, np.asarray(pairs.margins)
    ranks, reasons = [0] * len(ids), [KEPT] * len(ids)
    ranking = _ranking(pairs)
    for rank, row in enumerate(ranking):
        ranks[row] = rank
    order = _drawn(pairs, seed) if config.rule == "random" else ranking
    above, below = _dropped_as(config)
    for rows in _by_prompt(pairs, order) if config.rule == "top_within_prompt" else [order]:
        start, stop = _band(config, margins[rows])
        for row in rows[:start]:
            reasons[row] = above
        for row in rows[stop:]:
            reasons[row] = below
    return Selection(tuple(ids), tuple(margins.tolist()), tuple(ranks), tuple(reasons))


def select_fewer(kept: ScoredPairs, config: SelectionConfig, count: int, seed: int) -> set[str]:
    """The ids of ``count`` of the pairs that a rule kept.

    ``top``, ``middle``, ``bottom`` and ``random`` are applied once more. ``threshold`` gives the largest margins, and
    ``all`` a random draw. ``top_within_prompt`` gives the best pair of each prompt, then the second best of each, and
    so on; among equals, the largest margins.

    Args:
        kept: The pairs that the rule kept.
        config: The rule.
        count: At most the number of pairs.
        seed: Seed of the random draws.
    """
    order = _drawn(kept, seed) if config.rule in ("random", "all") else _ranking(kept)
    if config.rule == "top_within_prompt":
        places = {row: place for rows in _by_prompt(kept, order) for place, row in enumerate(rows)}
        order = sorted(order, key=lambda row: places[row])
    start = _start(config.rule, len(order), count)
    return {kept.example_ids[row] for row in order[start : start + count]}


def _ranking(pairs: ScoredPairs) -> list[int]:
    return sorted(range(len(pairs.example_ids)), key=lambda row: (-pairs.margins[row], pairs.example_ids[row]))


def _drawn(pairs: ScoredPairs, seed: int) -> list[int]:
    """All rows in random order; a row's place depends on its id alone."""
    return sorted(
        range(len(pairs.example_ids)),
        key=lambda row: hashlib.sha256(f"{seed}:{pairs.example_ids[row]}".encode()).digest(),
    )


def _by_prompt(pairs: ScoredPairs, order: Sequence[int]) -> Iterable[list[int]]:
    """The rows of each prompt, in the given order."""
    rows: dict[str, list[int]] = {}
    for row in order:
        rows.setdefault(pairs.prompt_ids[row], []).append(row)
    return rows.values()


def _band(config: SelectionConfig, ranked: np.ndarray) -> tuple[int, int]:
    """First kept rank and first dropped rank after it, in the rule's order; ``ranked`` are the margins in it [N]."""
    total = len(ranked)
    if config.threshold is not None:
        return 0, int(np.count_nonzero(ranked >= config.threshold))
    if config.rule == "all" or total == 0:
        return 0, total
    count = max(1, math.floor(config.fraction * total + 0.5))
    start = _start(config.rule, total, count)
    return start, start + count


def _start(rule: str, total: int, count: int) -> int:
    """The first kept rank where ``count`` of ``total`` pairs are kept."""
    return {"middle": (total - count) // 2, "bottom": total - count}.get(rule, 0)


def _dropped_as(config: SelectionConfig) -> tuple[str, str]:
    """Reasons for the pairs before and after the kept band."""
    if config.threshold is not None:
        return "", f"margin below {config.threshold}"
    if config.rule == "random":
        return "", "not drawn"
    if config.rule == "top_within_prompt":
        return "", f"below the top {100 * config.fraction:g}% of its prompt"
    band = f"{config.rule} {100 * config.fraction:g}%"
    return f"above the {band}", f"below the {band}"

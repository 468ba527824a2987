"""Selection of scored pairs. Pure: it depends on what ``ScoredPairs`` has, not on the order of the rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seralign.config import SelectionConfig
from seralign.rewards.scored_pairs import ScoredPairs, texts
from seralign.runs.streams import packed

KEPT = "kept"


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The decision of a rule about each of N pairs, in input order.

    Args:
        example_ids: The pairs [N].
        margins: Their margins in nats [N].
        ranks: Rank by margin [N]; 0 is the largest. Equal margins are ranked by ``example_id``.
        is_kept: Whether the rule keeps them [N].
        reasons: ``kept``, or why the pair was dropped [N].
    """

    example_ids: pa.ChunkedArray
    margins: np.ndarray
    ranks: np.ndarray
    is_kept: np.ndarray
    reasons: pa.StringArray

    @property
    def kept(self) -> tuple[str, ...]:
        """Ids of the kept pairs, in input order."""
        return tuple(self.example_ids.filter(pa.array(self.is_kept)).to_pylist())

    def table(self) -> dict[str, Any]:
        """Columns ``example_id``, ``margin``, ``rank``, ``kept`` and ``reason``, one row a pair [N]."""
        return {
            "example_id": self.example_ids,
            "margin": self.margins,
            "rank": self.ranks,
            "kept": self.is_kept,
            "reason": self.reasons,
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
    margins = np.asarray(pairs.margins, dtype=np.float64)
    ranking, ranks = _ranking(pairs), np.empty(len(margins), dtype=np.int64)
    ranks[ranking] = np.arange(len(margins))
    order = _drawn(pairs, seed) if config.rule == "random" else ranking
    # 0: dropped before the kept band, 1: kept, 2: dropped after it.
    parts = np.empty(len(margins), dtype=np.int8)
    if config.rule == "top_within_prompt":
        places, sizes = _places(pairs, order)
        parts[:] = 1 + (places >= _counts(config, sizes))
    else:
        start, stop = _band(config, margins[order])
        parts[order[:start]], parts[order[start:stop]], parts[order[stop:]] = 0, 1, 2
    above, below = _dropped_as(config)
    reasons = pa.array([above, KEPT, below]).take(pa.array(parts))
    return Selection(texts(pairs.example_ids), margins, ranks, parts == 1, reasons)


def select_fewer(kept: ScoredPairs, config: SelectionConfig, count: int, seed: int) -> np.ndarray:
    """Choose ``count`` of the N pairs that a rule kept.

    ``top``, ``middle``, ``bottom`` and ``random`` are applied once more. ``threshold`` gives the largest margins, and
    ``all`` a random draw. ``top_within_prompt`` gives the best pair of each prompt, then the second best of each, and
    so on; among equals, the largest margins.

    Args:
        kept: The pairs that the rule kept.
        config: The rule.
        count: At most the number of pairs.
        seed: Seed of the random draws.

    Returns:
        Whether each pair is chosen [N].
    """
    order = _drawn(kept, seed) if config.rule in ("random", "all") else _ranking(kept)
    if config.rule == "top_within_prompt":
        order = order[np.argsort(_places(kept, order)[0][order], kind="stable")]
    start, chosen = _start(config.rule, len(order), count), np.zeros(len(order), dtype=bool)
    chosen[order[start : start + count]] = True
    return chosen


def _ranking(pairs: ScoredPairs) -> np.ndarray:
    """All rows [N], those with the largest margin first, and equal ones in order of their ids."""
    # Zero is added since Arrow must take -0.0 and 0.0 for equal.
    both = pa.table({"margin": np.asarray(pairs.margins, dtype=np.float64) + 0.0, "id": texts(pairs.example_ids)})
    keys = [("margin", "descending"), ("id", "ascending")]
    return pc.sort_indices(both, sort_keys=keys).to_numpy().astype(np.int64)  # pyright: ignore


def _drawn(pairs: ScoredPairs, seed: int) -> np.ndarray:
    """All rows [N] in random order; a row's place depends on its id alone."""
    ids = (name for chunk in texts(pairs.example_ids).chunks for name in chunk.to_pylist())
    digests = packed((hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in ids), "S32")
    return np.argsort(digests, kind="stable")


def _places(pairs: ScoredPairs, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each row among those of its prompt in the given order, and how many these are, [N] each."""
    names = texts(pairs.prompt_ids).combine_chunks().dictionary_encode()
    prompts = names.indices.to_numpy()
    counts = np.bincount(prompts, minlength=len(names.dictionary))
    grouped = order[np.argsort(prompts[order], kind="stable")]
    places = np.empty(len(order), dtype=np.int64)
    places[grouped] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places, counts[prompts]


def _band(config: SelectionConfig, ranked: np.ndarray) -> tuple[int, int]:
    """First kept rank and first dropped rank after it, in the rule's order; ``ranked`` are the margins in it [N]."""
    total = len(ranked)
    if config.threshold is not None:
        return 0, int(np.count_nonzero(ranked >= config.threshold))
    if config.rule == "all" or total == 0:
        return 0, total
    count = int(_counts(config, np.array(total)))
    start = _start(config.rule, total, count)
    return start, start + count


def _counts(config: SelectionConfig, totals: np.ndarray) -> np.ndarray:
    """How many of so many pairs a fraction keeps: the nearest number, at least one."""
    return np.maximum(1, np.floor(config.fraction * totals + 0.5).astype(np.int64))


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

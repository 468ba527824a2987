"""Selection of scored pairs. Pure: it depends only on ids and scores, not on the order of the rows."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.config import SelectionConfig
from seralign.errors import DataError

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


def select(example_ids: Sequence[str], margins: np.ndarray, config: SelectionConfig, seed: int) -> Selection:
    """Keep pairs by the configured rule (2410.09362, selection by implicit reward margin).

    Pairs are ranked by margin, largest first, ties by ``example_id``. A fraction f of N pairs is f N pairs, rounded to
    the nearest number (halves up), at least one.

    - ``top``, ``bottom``: the first or the last of the ranking.
    - ``middle``: the centre of the ranking; if it cannot be centred, one rank nearer to the top.
    - ``threshold``: margin >= threshold; may keep none.
    - ``random``: the pairs with the smallest hashes of seed and ``example_id``; ignores margins.
    - ``all``: every pair.

    Args:
        example_ids: Distinct ids [N].
        margins: Margins in nats [N].
        config: The rule.
        seed: Seed of the ``random`` rule. The same seed draws the same pairs, so each round needs a different one.

    Raises:
        DataError: a margin is not finite, or two pairs have the same id; names the pair.
        ValueError: ``margins`` is not [N].
    """
    ids, values = _checked(example_ids, margins)
    ranking = sorted(range(len(ids)), key=lambda row: (-values[row], ids[row]))
    order = sorted(range(len(ids)), key=lambda row: _draw(seed, ids[row])) if config.rule == "random" else ranking
    start, stop = _band(config, np.array([values[row] for row in order]))
    above, below = _dropped_as(config)

    ranks, reasons = [0] * len(ids), [KEPT] * len(ids)
    for rank, row in enumerate(ranking):
        ranks[row] = rank
    for row in order[:start]:
        reasons[row] = above
    for row in order[stop:]:
        reasons[row] = below
    return Selection(ids, values, tuple(ranks), tuple(reasons))


def _checked(example_ids: Sequence[str], margins: np.ndarray) -> tuple[tuple[str, ...], tuple[float, ...]]:
    ids, values = tuple(example_ids), np.asarray(margins, dtype=np.float64)
    if values.shape != (len(ids),):
        raise ValueError(f"margins must have shape [{len(ids)}], one for each pair, got {list(values.shape)}")
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DataError(
            f"pair {ids[bad[0]]!r}: margin is {values[bad[0]]}, must be a finite number "
            f"({bad.size} of {len(ids)} pairs have such a margin)"
        )
    repeated = next((name for name, count in Counter(ids).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"example_id {repeated!r} occurs more than once; each scored pair needs a unique id")
    return ids, tuple(values.tolist())


def _draw(seed: int, example_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{example_id}".encode()).digest()


def _band(config: SelectionConfig, ranked: np.ndarray) -> tuple[int, int]:
    """First kept rank and first dropped rank after it, in the rule's order; ``ranked`` are the margins in it [N]."""
    total = len(ranked)
    if config.threshold is not None:
        return 0, int(np.count_nonzero(ranked >= config.threshold))
    if config.rule == "all" or total == 0:
        return 0, total
    count = max(1, math.floor(config.fraction * total + 0.5))
    start = {"top": 0, "random": 0, "middle": (total - count) // 2, "bottom": total - count}[config.rule]
    return start, start + count


def _dropped_as(config: SelectionConfig) -> tuple[str, str]:
    """Reasons for the pairs before and after the kept band."""
    if config.threshold is not None:
        return "", f"margin below {config.threshold}"
    if config.rule == "random":
        return "", "not drawn"
    band = f"{config.rule} {100 * config.fraction:g}%"
    return f"above the {band}", f"below the {band}"

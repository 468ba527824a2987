"""The labeller of all worlds. It follows the gold reward imperfectly, also prefers a surface feature, and makes errors.

Bradley-Terry: P(a is chosen over b) = sigmoid(lead), lead = s_g (points_a - points_b) + s (surface_a - surface_b), with
s_g = ``world.gold_strength`` and s = ``world.spurious_strength``. The label is then flipped with probability
``world.noise``.

Dimension letters: N pairs; a and b are the first and the second response of a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.config import WorldConfig
from seralign.records import content_id


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels of N pairs.

    ``first_wins`` [N]: the first response is chosen. ``flipped`` [N]: the label is noise. ``p`` [N] in [0.5, 1]:
    probability that the labeller prefers the chosen response; None if labels were drawn. ``difference`` [N]: by how
    much the labeller likes the first response better, in log-odds; above 0 where it wins.
    """

    first_wins: np.ndarray
    flipped: np.ndarray
    p: np.ndarray | None
    difference: np.ndarray


def surface(kind: str, responses: Sequence[str], style_token: str | None) -> np.ndarray:
    """The feature [N] of responses that the labeller prefers and the gold reward ignores.

    ``length``: number of words (separated by spaces). ``style``: number of occurrences of ``style_token``.
    ``position``: share of the words after the first ``style_token``, 0 without one; larger if the token is earlier.
    """
    words = [response.split() for response in responses]
    if kind == "length":
        return np.array([len(found) for found in words], dtype=float)
    assert style_token is not None
    if kind == "style":
        return np.array([found.count(style_token) for found in words], dtype=float)
    return np.array([_after(found, style_token) for found in words], dtype=float)


def lead(config: WorldConfig, points: Sequence[np.ndarray], surfaces: Sequence[np.ndarray]) -> np.ndarray:
    """Log-odds [N] that the first response of each pair is chosen, before noise.

    Args:
        config: Strengths.
        points: Gold reward in points (one clause, one step) of the first and of the second responses, [N] each.
        surfaces: Surface feature of the first and of the second responses, [N] each.
    """
    return config.gold_strength * (points[0] - points[1]) + config.spurious_strength * (surfaces[0] - surfaces[1])


def draw_labels(rng: np.random.Generator, lead: np.ndarray, config: WorldConfig) -> Labels:
    """Draw labels for pairs with log-odds ``lead`` [N]. Every configuration uses the same number of random numbers.

    With ``world.soft_labels`` nothing is drawn: the more likely response is chosen, and p is its probability, including
    noise.
    """
    verdicts, mistakes = rng.logistic(size=len(lead)), rng.random(len(lead))
    if config.soft_labels:
        p = config.noise + (1 - 2 * config.noise) / (1 + np.exp(-np.clip(lead, -500, 500)))
        return Labels(p >= 0.5, np.zeros(len(lead), dtype=bool), np.maximum(p, 1 - p), lead)
    flipped = mistakes < config.noise
    return Labels((verdicts < lead) ^ flipped, flipped, None, np.where(flipped, verdicts - lead, lead - verdicts))


def labelled_rows(
    prompts: Sequence[Any],
    sides: tuple[Sequence[Any], Sequence[Any]],
    gold: Sequence[np.ndarray],
    labels: Labels,
    ending: str = "",
) -> list[dict[str, Any]]:
    """Pairs as rows of a file: ``pair_id``, ``prompt``, ``chosen``, ``rejected``, for soft labels ``p``, and the hidden
    truth ``gold_chosen``, ``gold_rejected`` and ``flipped``.

    ``pair_id`` is the digest that the data stage would compute, with a suffix ``-2``, ``-3`` ... for repeated pairs.

    Args:
        prompts: Texts or token ids.
        sides: The first and the second responses, of the same kind.
        gold: Their gold rewards, [N] each.
        labels: Which response is chosen.
        ending: Suffix of the columns ``prompt``, ``chosen`` and ``rejected``: ``_ids`` for token ids.
    """
    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for i, winner in enumerate(np.where(labels.first_wins, 0, 1).tolist()):
        contents = [prompts[i], sides[winner][i], sides[1 - winner][i]]
        name = content_id(contents)
        seen[name] = seen.get(name, 0) + 1
        row: dict[str, Any] = {"pair_id": name if seen[name] == 1 else f"{name}-{seen[name]}"}
        row |= {
            f"{kind}{ending}": content for kind, content in zip(("prompt", "chosen", "rejected"), contents, strict=True)
        }
        if labels.p is not None:
            row["p"] = float(labels.p[i])
        row |= {
            "gold_chosen": float(gold[winner][i]),
            "gold_rejected": float(gold[1 - winner][i]),
            "flipped": bool(labels.flipped[i]),
        }
        rows.append(row)
    return rows


def _after(words: list[str], token: str) -> float:
    return 1 - (words.index(token) + 1) / len(words) if token in words else 0.0

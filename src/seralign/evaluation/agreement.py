"""How far the judges of a panel agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from seralign.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """How far two judges agree on who wins, beyond chance.

    Args:
        judges: Their names.
        comparisons: Comparisons on which both have a verdict.
        share: Share of these on which they name the same winner, or both a tie; None without any.
        kappa: Cohen's (1960) kappa: 1 for full agreement, 0 for that of two judges who decide by chance, each as often
            for either side as it does. None if it is undefined, because both always decide the same.
    """

    judges: tuple[str, str]
    comparisons: int
    share: float | None
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the judges of a panel agree.

    Args:
        judges: Their names.
        comparisons: Comparisons with verdicts of at least two judges.
        alpha: Krippendorff's alpha of the winners (first, second, or tie; nominal): 1 for full agreement, 0 for that of
            chance. None if it is undefined, because all verdicts are equal or there are none.
        alpha_probabilities: The same of the probabilities, as an interval scale.
        pairs: Every two judges.
    """

    judges: tuple[str, ...]
    comparisons: int
    alpha: float | None
    alpha_probabilities: float | None
    pairs: tuple[PairAgreement, ...]


def agreement(names: Sequence[str], members: Sequence[Sequence[float | None]]) -> Agreement:
    """Agreement of J judges on N comparisons.

    Args:
        names: Names of the judges [J].
        members: ``Verdict.members`` of each comparison [N][J]: the probability by each judge that the first response is
            better; None where it has no verdict.

    Raises:
        ConfigError: ``krippendorff`` is not installed.
        ValueError: A comparison has another number of judges.
    """
    if any(len(row) != len(names) for row in members):
        raise ValueError(f"every comparison must have {len(names)} verdicts, those of {', '.join(names)}")
    p = np.array([[np.nan if one is None else one for one in row] for row in members], np.float64).reshape(
        len(members), len(names)
    )
    winners = np.sign(np.round(p - 0.5, 9))
    pairs = tuple(
        _pair((names[one], names[other]), winners[:, one], winners[:, other])
        for one, other in combinations(range(len(names)), 2)
    )
    both = int(((~np.isnan(p)).sum(axis=1) >= 2).sum())
    return Agreement(tuple(names), both, _alpha(winners, "nominal"), _alpha(p, "interval"), pairs)


def _alpha(values: np.ndarray, level: Literal["nominal", "interval"]) -> float | None:
    """Krippendorff's alpha of values [N, J]."""
    try:
        import krippendorff
    except ImportError:
        raise ConfigError(
            "agreement of judges needs the package krippendorff; pip install 'seralign[judges]'"
        ) from None
    shared = values[(~np.isnan(values)).sum(axis=1) >= 2]
    if np.unique(shared[~np.isnan(shared)]).size < 2:
        return None
    return float(krippendorff.alpha(reliability_data=shared.T, level_of_measurement=level))


def _pair(names: tuple[str, str], one: np.ndarray, other: np.ndarray) -> PairAgreement:
    both = ~np.isnan(one) & ~np.isnan(other)
    one, other = one[both], other[both]
    if not one.size:
        return PairAgreement(names, 0, None, None)
    same = float((one == other).mean())
    chance = sum(float((one == side).mean() * (other == side).mean()) for side in (-1.0, 0.0, 1.0))
    kappa = None if chance == 1.0 else (same - chance) / (1 - chance)
    return PairAgreement(names, int(one.size), same, kappa)

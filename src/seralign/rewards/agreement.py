"""How far two policies agree on the ranking of sampled responses, as labels of generated pairs (CREAM, 2410.12735)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
from scipy.stats import kendalltau


def ranking_agreement(
    usable: Iterable[tuple[str, np.ndarray]], last: np.ndarray, before: np.ndarray
) -> dict[str, float]:
    """(tau + 1) / 2 for each prompt, with Kendall's tau of its responses under two rewards.

    1 if both rewards rank the responses alike, 0 if one ranking is the reverse of the other, 0.5 if they are unrelated
    or one reward does not rank them at all.

    Args:
        usable: Each prompt's id with the rows of its responses that can form pairs, two or more.
        last: Rewards of all responses under the last policy [N].
        before: The same under the policy before it [N].

    For example, three responses with the rewards 3, 2, 1 and 3, 1, 2 have two pairs in the same order and one in the
    other: tau is (2 - 1) / 3, and the agreement 2/3.
    """
    found = {}
    for prompt_id, rows in usable:
        tau = float(cast(Any, kendalltau(last[rows], before[rows])).statistic)
        found[prompt_id] = 0.5 if np.isnan(tau) else (tau + 1) / 2
    return found


def agreement_labels(
    agreement: Mapping[str, float], prompts: Sequence[str], per: Literal["dataset", "prompt"]
) -> list[float]:
    """The probabilities that the best responses of these prompts are better than the worst.

    Args:
        agreement: Of every prompt with two responses or more.
        prompts: Whose pairs are labelled.
        per: The mean over all prompts of ``agreement`` (``dataset``), or that of each prompt (``prompt``).
    """
    if per == "prompt":
        return [agreement[prompt_id] for prompt_id in prompts]
    return [mean_agreement(agreement)] * len(prompts)


def mean_agreement(agreement: Mapping[str, float]) -> float:
    """The mean over all prompts; 0.5, which says nothing, of none."""
    return float(np.mean(list(agreement.values()))) if agreement else 0.5

"""Chooses the generated pairs of a round that are labelled, within a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import datasets
import numpy as np
import pyarrow as pa

from seralign.pipeline.context import Loop
from seralign.pipeline.model_rewards import model_rewards
from seralign.rewards.acquisition import acquire
from seralign.rewards.pairing import Contrast
from seralign.rewards.responses import Responses
from seralign.rewards.reward_model import ensemble_rewards
from seralign.runs.layout import round_name


def queried(
    loop: Loop,
    index: int,
    prompts: datasets.Dataset,
    candidates: pa.Table,
    responses: Responses,
    found: Sequence[Contrast],
) -> tuple[Sequence[Contrast], Counter[str]]:
    """The pairs to ask about, the most informative first, and the number of pairs ``not asked about``.

    Args:
        loop: The run.
        index: The round.
        prompts: Prompts of the round.
        candidates: All candidates, whose rows the pairs name.
        responses: The same candidates, for scoring.
        found: All pairs.
    """
    config = loop.config.bootstrap
    assert config is not None
    query = config.query
    if query is None or len(found) <= query.budget:
        return found, Counter()
    rows_N2 = np.array([one.rows for one in found], np.int64)

    def margins() -> np.ndarray:
        return np.array([one.margin for one in found])

    def spreads() -> np.ndarray:
        return ensemble_rewards(
            [each[rows_N2[:, 0]] - each[rows_N2[:, 1]] for each in model_rewards(loop, responses)]
        ).spread

    def texts() -> list[str]:
        asked = dict(zip(prompts["prompt_id"], prompts["text"], strict=True))
        answers = candidates["text"].to_pylist()
        return [" ".join((asked[one.prompt_id], *(answers[row] for row in one.rows))) for one in found]

    seed = loop.seed(round_name(index), "query")
    rows = acquire(query.strategy, query.budget, len(found), seed, margins=margins, spreads=spreads, texts=texts)
    return [found[row] for row in rows], Counter({"not asked about": len(found) - len(rows)})

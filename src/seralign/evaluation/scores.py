"""Scores of responses, kept by content: a scorer is asked once for each response to a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seralign.evaluation.scorer import Scorer
from seralign.runs.results import Results, result_key

# Responses that the scorer gets at once; a killed evaluation loses the scores of so many at most.
TOGETHER = 256


@dataclass(frozen=True)
class StoredScorer:
    """A scorer whose scores are stored. The main process alone calls it."""

    scorer: Scorer
    results: Results

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Scores [N] of N responses. The scorer is asked for those that are not stored, ``TOGETHER`` at a time.

        Raises:
            ConfigError: the scorer fails, or returns something else than one finite number a response.
        """
        pairs = list(zip(prompts, responses, strict=True))
        keys = [result_key("score", [self.scorer.digest, *pair]) for pair in pairs]
        found: dict[bytes, float] = dict(self.results.get(list(dict.fromkeys(keys))))
        missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in found}
        todo = list(missing)
        for start in range(0, len(todo), TOGETHER):
            some = todo[start : start + TOGETHER]
            asked, answers = zip(*(missing[key] for key in some), strict=True)
            scores = dict(zip(some, self.scorer(list(asked), list(answers)).tolist(), strict=True))
            self.results.put(scores)
            found |= scores
        return np.array([found[key] for key in keys], dtype=np.float64)

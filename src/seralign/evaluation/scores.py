"""Stored scores: the scorer is called once for each prompt and response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seralign.evaluation.scorer import Scorer
from seralign.runs.results import Results, result_key

# Responses per call of the scorer. An evaluation that is killed loses at most this many scores.
TOGETHER = 256


@dataclass(frozen=True)
class StoredScorer:
    """A scorer whose scores are stored. Only the main process calls it."""

    scorer: Scorer
    results: Results

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Scores [N] of N responses. The scorer is called for those that are not stored, ``TOGETHER`` at a time.

        Raises:
            ConfigError: the scorer fails, or does not return one finite number per response.
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

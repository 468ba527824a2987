"""The built-in judge: the response with the higher score is better."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from seralign.errors import ConfigError
from seralign.evaluation.judges.base import Comparison, Verdict
from seralign.evaluation.scores import StoredScorer
from seralign.intervals import outcomes
from seralign.runs.results import Results


class ScorerJudge:
    """Compares the scores of the two responses; equal scores are a tie."""

    def __init__(
        self, options: dict[str, Any], key: str, scorer: StoredScorer | None, results: Results | None = None
    ) -> None:
        if scorer is None:
            raise ConfigError(f"{key}: the judge scorer needs {key.removesuffix('judge')}scorer, which is not set")
        if options:
            raise ConfigError(f"{key}_options: judge scorer has none, got {', '.join(sorted(options))}")
        self._scorer = scorer

    @property
    def identity(self) -> str:
        """The digest of the scorer."""
        return f"scorer {self._scorer.scorer.digest}"

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """See ``seralign.evaluation.judges.Judge.judge``.

        Raises:
            ConfigError: the scorer fails, or does not return one finite number per response.
        """
        asked = list(comparisons)
        prompts = [comparison.prompt.text for comparison in asked]
        first = self._scorer(prompts, [comparison.first for comparison in asked])
        second = self._scorer(prompts, [comparison.second for comparison in asked])
        found = zip(asked, outcomes(first, second).tolist(), first.tolist(), second.tolist(), strict=True)
        for comparison, better, own, other in found:
            yield comparison, Verdict(better, (own, other))

"""A judge that is a function of the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.config.values import build
from seralign.errors import ConfigError
from seralign.evaluation.judges.base import Comparison, Verdict
from seralign.evaluation.scorer import make_scorer
from seralign.evaluation.scores import StoredScorer
from seralign.plugins import load_plugin, plugin_errors
from seralign.runs.results import Results


@dataclass(frozen=True)
class FunctionOptions:
    """Options of the judge ``function``.

    Args:
        function: ``module:function``, called with lists of prompts, first responses and second responses (texts, [N]
            each). Returns the probability that the first response is better [N], 0.5 for a tie; NaN for no verdict.
    """

    function: str


class FunctionJudge:
    """Calls a function with all comparisons at once.

    Args:
        options: The keys of ``FunctionOptions``.
        key: The configuration key that names the judge, for messages.
        scorer: Not used.
        results: Not used.

    Raises:
        ConfigError: an option is wrong, or there is no such function.
    """

    def __init__(self, options: dict[str, Any], key: str, scorer: StoredScorer | None, results: Results | None) -> None:
        self._name = build(FunctionOptions, options, f"{key}_options").function
        self._key = f"{key}_options.function"
        self._function = load_plugin(self._name, self._key, "function")
        # The digest of a scorer: the source of the module, and the data files that the function names.
        self.identity = f"function {make_scorer(self._function, self._name, self._key).digest}"

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """See ``seralign.evaluation.judges.Judge.judge``.

        Raises:
            ConfigError: the function fails, or does not return one number in [0, 1] for each comparison.
        """
        asked = list(comparisons)
        texts = [one.prompt.text for one in asked], [one.first for one in asked], [one.second for one in asked]
        with plugin_errors(self._key, self._name):
            found = np.asarray(self._function(*texts), dtype=np.float64)
        if found.shape != (len(asked),):
            raise self._wrong(f"must return one probability per comparison, with shape ({len(asked)},)", found.shape)
        wrong = np.flatnonzero((found < 0) | (found > 1))
        if wrong.size:
            raise self._wrong("must return numbers in [0, 1]", found[wrong[0]])
        for comparison, better in zip(asked, found.tolist(), strict=True):
            yield comparison, Verdict(None if np.isnan(better) else better)

    def _wrong(self, what: str, got: object) -> ConfigError:
        return ConfigError(f"{self._key}: {self._name} {what}, got {got}")

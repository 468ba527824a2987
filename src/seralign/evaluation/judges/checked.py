"""Checks the verdicts of a user's judge, and reports its exceptions as errors of the judge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from seralign.errors import ConfigError
from seralign.evaluation.judges.base import Comparison, Judge, Verdict
from seralign.plugins import plugin_errors


class CheckedJudge:
    """A judge that checks the verdicts of another judge.

    Args:
        judge: The user's judge.
        key: The configuration key that names it.
        name: The value of that key.

    Raises:
        ConfigError: the judge has no identity.
    """

    def __init__(self, judge: Judge, key: str, name: str) -> None:
        self._judge, self._key, self._name = judge, key, name
        identity = getattr(judge, "identity", None)
        if not isinstance(identity, str):
            raise self._wrong(f"identity must be of type str, got {identity!r}")
        self.identity = f"{name}, {identity}"

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """The verdicts of the judge, each checked before it is yielded.

        Raises:
            ConfigError: the judge failed, a verdict does not belong to a comparison, or comparisons have no verdict.
        """
        waiting: set[Comparison] = set()

        def taken() -> Iterator[Comparison]:
            for comparison in comparisons:
                waiting.add(comparison)
                yield comparison

        with plugin_errors(self._key, self._name):
            for answer in self._judge.judge(taken()):
                comparison, verdict = answer
                if comparison not in waiting:
                    raise self._wrong("a comparison is decided twice, or was never asked")
                waiting.remove(comparison)
                self._check(verdict)
                yield comparison, verdict
        if waiting:
            raise self._wrong(f"{len(waiting)} comparisons have no answer; a Verdict of None says that there is none")

    def _check(self, verdict: Verdict) -> None:
        if not isinstance(verdict, Verdict):
            raise self._wrong(f"must give a Verdict, got {type(verdict).__name__}")
        better = verdict.first_better
        if better is not None and not (isinstance(better, int | float) and 0 <= better <= 1):
            raise self._wrong(f"first_better must be in [0, 1] or None, got {better!r}")
        if better is not None and verdict.error is not None:
            raise self._wrong(f"a verdict with an error ({verdict.error}) must have first_better None")
        if verdict.scores is not None and not all(map(math.isfinite, verdict.scores)):
            raise self._wrong(f"scores must be finite, got {verdict.scores}")

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{self._key}: {self._name}: {what}")

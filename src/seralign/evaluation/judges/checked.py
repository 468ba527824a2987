"""Checks the verdicts of a user's judge, and reports its exceptions as errors of the judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from numbers import Real

from seralign.errors import ConfigError
from seralign.evaluation.judges.base import Comparison, Judge, Verdict
from seralign.evaluation.scorer import MAX_SCORE
from seralign.plugins import is_text, plugin_errors


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
                yield comparison, self._checked(verdict)
        if waiting:
            raise self._wrong(f"{len(waiting)} comparisons have no answer; a Verdict of None says that there is none")

    def _checked(self, verdict: Verdict) -> Verdict:
        if not isinstance(verdict, Verdict):
            raise self._wrong(f"must give a Verdict, got {type(verdict).__name__}")
        better, scores = verdict.first_better, verdict.scores
        if better is not None and not (isinstance(better, Real) and 0 <= better <= 1):
            raise self._wrong(f"first_better must be in [0, 1] or None, got {better!r}")
        if better is not None and verdict.error is not None:
            raise self._wrong(f"a verdict with an error ({verdict.error}) must have first_better None")
        for name, text in (("explanation", verdict.explanation), ("error", verdict.error)):
            if text is not None and not is_text(text):
                raise self._wrong(f"{name} must be text that UTF-8 can hold, or None, got {text!r}")
        if scores is not None and not (isinstance(scores, tuple | list) and len(scores) == 2 and all(map(_is, scores))):
            raise self._wrong(f"scores must be two finite numbers of at most {MAX_SCORE:g} in size, got {scores!r}")
        return replace(
            verdict,
            first_better=None if better is None else float(better),
            scores=None if scores is None else (float(scores[0]), float(scores[1])),
        )

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{self._key}: {self._name}: {what}")


def _is(score: object) -> bool:
    return isinstance(score, Real) and not isinstance(score, bool) and abs(float(score)) <= MAX_SCORE

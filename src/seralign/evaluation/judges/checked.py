"""Checks the verdicts of a user's judge, and reports its exceptions as errors of the judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from numbers import Real

from seralign.errors import ConfigError
from seralign.evaluation.judges.base import Comparison, Judge, Verdict
from seralign.evaluation.scorer import MAX_SCORE
from seralign.plugins import is_text, plugin_errors
from seralign.servers.usage import Usage


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
        if better is not None and not _p(better):
            raise self._wrong(f"first_better must be in [0, 1] or None, got {better!r}")
        for why in (verdict.error, verdict.unreadable):
            if better is not None and why is not None:
                raise self._wrong(f"a verdict with an error ({why}) must have first_better None")
        for name in ("explanation", "error", "unreadable"):
            text = getattr(verdict, name)
            if text is not None and not is_text(text):
                raise self._wrong(f"{name} must be text that UTF-8 can hold, or None, got {text!r}")
        if scores is not None and not (isinstance(scores, tuple | list) and len(scores) == 2 and all(map(_is, scores))):
            raise self._wrong(f"scores must be two finite numbers of at most {MAX_SCORE:g} in size, got {scores!r}")
        orders, members = verdict.orders, verdict.members
        if orders is not None and not (isinstance(orders, tuple | list) and len(orders) == 2 and all(map(_p, orders))):
            raise self._wrong(f"orders must be two numbers in [0, 1], got {orders!r}")
        if members is not None and not (
            isinstance(members, tuple | list) and all(one is None or _p(one) for one in members)
        ):
            raise self._wrong(f"members must be numbers in [0, 1] or None, got {members!r}")
        if verdict.usage is not None and not isinstance(verdict.usage, Usage):
            raise self._wrong(f"usage must be a Usage, got {verdict.usage!r}")
        return replace(
            verdict,
            first_better=None if better is None else float(better),
            orders=None if orders is None else (float(orders[0]), float(orders[1])),
            members=None if members is None else tuple(None if one is None else float(one) for one in members),
            scores=None if scores is None else (float(scores[0]), float(scores[1])),
        )

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{self._key}: {self._name}: {what}")


def _is(score: object) -> bool:
    return isinstance(score, Real) and not isinstance(score, bool) and abs(float(score)) <= MAX_SCORE


def _p(value: object) -> bool:
    return isinstance(value, Real) and 0 <= float(value) <= 1

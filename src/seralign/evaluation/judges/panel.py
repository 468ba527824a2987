"""A judge made of several judges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from seralign.config.values import build
from seralign.errors import ConfigError
from seralign.evaluation.judges.base import Comparison, Judge, Verdict
from seralign.evaluation.judges.storing import asked_verdicts, stored_verdicts
from seralign.evaluation.scores import StoredScorer
from seralign.runs.results import Results
from seralign.servers.usage import Usage


@dataclass(frozen=True)
class PanelOptions:
    """Options of the judge ``panel``.

    Args:
        judges: The judges by a name of your choice, at least two; each a ``PanelMember``.
    """

    judges: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        if len(self.judges) < 2:
            raise ConfigError("judges must have at least two judges, each with a name of your choice")


@dataclass(frozen=True)
class PanelMember:
    """A judge of a panel.

    Args:
        judge: The name of a judge, or ``module:class`` of your own.
        judge_options: Its options.
    """

    judge: str
    judge_options: dict[str, Any] = field(default_factory=dict)


class PanelJudge:
    """The mean of the probabilities of several judges. Each judge's own verdicts are stored too.

    Args:
        options: The keys of ``PanelOptions``.
        key: The configuration key that names the judge, for messages.
        scorer: The scorer of the run, for its judges.
        results: Where verdicts of each judge are stored.

    Raises:
        ConfigError: an option is wrong, or one of a judge.
    """

    def __init__(self, options: dict[str, Any], key: str, scorer: StoredScorer | None, results: Results | None) -> None:
        from seralign.evaluation.judges import make_judge

        section = f"{key}_options"
        self._results = results
        self._judges = dict[str, Judge]()
        for name, values in build(PanelOptions, options, section).judges.items():
            place = f"{section}.judges.{name}"
            member = build(PanelMember, values, place)
            self._judges[name] = make_judge(member.judge, member.judge_options, scorer, f"{place}.judge", results)
        self.names = tuple(self._judges)
        self.identity = f"panel of {'; '.join(judge.identity for judge in self._judges.values())}"

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """See ``seralign.evaluation.judges.Judge.judge``. The judges are asked one after the other.

        A comparison on which a request of any judge failed has no verdict yet. A judge without a verdict is left out of
        the mean.

        Raises:
            SeralignError: what the judges raise.
        """
        asked = list(comparisons)
        found = [self._verdicts(judge, asked) for judge in self._judges.values()]
        for comparison in asked:
            yield comparison, _together(self.names, [verdicts[comparison] for verdicts in found])

    def _verdicts(self, judge: Judge, asked: Sequence[Comparison]) -> dict[Comparison, Verdict]:
        if self._results is None:
            return dict(judge.judge(asked))
        found = dict(stored_verdicts(judge, asked, self._results))
        missing = [comparison for comparison in asked if comparison not in found]
        return found | dict(asked_verdicts(judge, missing, self._results))


def _together(names: Sequence[str], verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of the verdicts of each judge on a comparison."""
    failed = [f"{name}: {one.error}" for name, one in zip(names, verdicts, strict=True) if one.error is not None]
    if failed:
        return Verdict(None, error="; ".join(failed))
    members = tuple(one.first_better for one in verdicts)
    used = [one.usage for one in verdicts if one.usage is not None]
    explanation = "\n\n".join(f"{name}: {one.explanation}" for name, one in zip(names, verdicts, strict=True)
                              if one.explanation is not None)  # fmt: skip
    common: dict[str, Any] = {
        "explanation": explanation or None,
        "members": members,
        "usage": sum(used, Usage()) if used else None,
    }
    known = [p for p in members if p is not None]
    if not known:
        why = [f"{name}: {one.unreadable or 'no verdict'}" for name, one in zip(names, verdicts, strict=True)]
        return Verdict(None, unreadable="; ".join(why), **common)
    both = [one.orders for one in verdicts if one.first_better is not None]
    orders = [one for one in both if one is not None]
    mean = None
    if len(orders) == len(both):
        mean = (sum(one[0] for one in orders) / len(orders), sum(one[1] for one in orders) / len(orders))
    return Verdict(sum(known) / len(known), orders=mean, **common)

"""Verdicts, and the win rates computed from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seralign.errors import ConfigError, StoreError
from seralign.evaluation.judges import Comparison, Judge, Verdict
from seralign.evaluation.judges.storing import asked_verdicts, stored_verdicts
from seralign.intervals import Interval, share_interval
from seralign.progress import say
from seralign.runs.results import Results


def decide(
    judge: Judge,
    comparisons: Sequence[Comparison],
    results: Results,
    label: str,
    key: str = "evaluation.judge",
    replay: bool = False,
) -> list[Verdict]:
    """The verdicts on N comparisons [N]. Comparisons with a stored verdict are not judged again.

    Args:
        judge: The judge.
        comparisons: N comparisons.
        results: Stored results of the run. Verdicts with an error are not stored.
        label: The policies that are compared, for messages.
        key: The configuration key that names the judge, for messages.
        replay: Use stored verdicts only; the judge is not asked.

    Raises:
        ConfigError: there are comparisons, but the judge gives no verdict on any of them.
        StoreError: with ``replay``, comparisons have no stored verdict; says how many.
    """
    verdicts = verdicts_on(judge, comparisons, results, label, replay)
    check_decided(verdicts, label, key)
    return verdicts


def verdicts_on(
    judge: Judge, comparisons: Sequence[Comparison], results: Results, label: str, replay: bool = False
) -> list[Verdict]:
    """``decide``, if the judge may have no verdict on any of the comparisons."""
    found = dict(stored_verdicts(judge, comparisons, results))
    missing = [comparison for comparison in dict.fromkeys(comparisons) if comparison not in found]
    if missing and replay:
        raise StoreError(
            f"{results.path}: no stored verdict on {len(missing)} of {len(set(comparisons))} comparisons ({label}) by "
            f"this judge ({judge.identity}); judge them first, without replay"
        )
    found |= asked_verdicts(judge, missing, results)
    return [found[comparison] for comparison in comparisons]


def check_decided(verdicts: Sequence[Verdict], label: str, key: str) -> None:
    """Warn of comparisons without a verdict.

    Raises:
        ConfigError: there are comparisons, but none has a verdict.
    """
    none = [verdict for verdict in verdicts if verdict.first_better is None]
    if not none:
        return
    reason, count = Counter(map(_reason, none)).most_common(1)[0]
    what = f"no verdict on {len(none)} of {len(verdicts)} comparisons ({label}); {count}: {reason}"
    if example := next((one.unreadable for one in none if one.unreadable and _reason(one) == reason), None):
        what += f" (one of them: {example})"
    if len(none) == len(verdicts):
        raise ConfigError(f"{key}: {what}")
    say(f"warning: {key}: {what}; they are ignored")


def win_rate(verdicts: Sequence[Verdict], level: float = 0.95) -> Interval | None:
    """The mean probability that the first response is the better one, over the comparisons with a verdict.

    If the judge gives only 1, 0 and 0.5, this is the share of wins, with ties counted as one half: 2 wins, 1 tie and
    1 loss give (2 + 0.5) / 4 = 0.625. The interval is that of ``seralign.intervals.share_interval``. None if there is
    no verdict.
    """
    return share_interval(
        [verdict.first_better for verdict in verdicts if verdict.first_better is not None], level=level
    )


def _reason(verdict: Verdict) -> str:
    unread = None if verdict.unreadable is None else "the judge's answer could not be read"
    return verdict.error or unread or "the judge gave no verdict"

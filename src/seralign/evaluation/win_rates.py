"""Verdicts, and the win rates computed from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace

from seralign.errors import ConfigError
from seralign.evaluation.judges import Comparison, Judge, Verdict
from seralign.intervals import Interval, share_interval
from seralign.progress import say
from seralign.runs.results import Results, result_key


def decide(
    judge: Judge, comparisons: Sequence[Comparison], results: Results, label: str, key: str = "evaluation.judge"
) -> list[Verdict]:
    """The verdicts on N comparisons [N]. Comparisons with a stored verdict are not judged again.

    Args:
        judge: The judge.
        comparisons: N comparisons.
        results: Stored results of the run. Verdicts with an error are not stored.
        label: The policies that are compared, for messages.
        key: The configuration key that names the judge, for messages.

    Raises:
        ConfigError: there are comparisons, but the judge gives no verdict on any of them.
    """
    keys = {comparison: _key(judge, comparison) for comparison in comparisons}
    stored = dict(results.get(list(keys.values())))
    found = {comparison: _verdict(stored[key]) for comparison, key in keys.items() if key in stored}
    missing = [comparison for comparison in keys if comparison not in found]
    for comparison, verdict in judge.judge(missing) if missing else ():
        if verdict.error is None:
            results.put({keys[comparison]: asdict(verdict)})
        found[comparison] = verdict
    verdicts = [found[comparison] for comparison in comparisons]
    none = [verdict for verdict in verdicts if verdict.first_better is None]
    if none:
        reason, count = Counter(verdict.error or "the judge gave no verdict" for verdict in none).most_common(1)[0]
        what = f"no verdict on {len(none)} of {len(verdicts)} comparisons ({label}); {count}: {reason}"
        if len(none) == len(verdicts):
            raise ConfigError(f"{key}: {what}")
        say(f"warning: {key}: {what}; they are ignored")
    return verdicts


def win_rate(verdicts: Sequence[Verdict], level: float = 0.95) -> Interval | None:
    """The mean probability that the first response is the better one, over the comparisons with a verdict.

    If the judge gives only 1, 0 and 0.5, this is the share of wins, with ties counted as one half: 2 wins, 1 tie and
    1 loss give (2 + 0.5) / 4 = 0.625. The interval is that of ``seralign.intervals.share_interval``. None if there is
    no verdict.
    """
    return share_interval(
        [verdict.first_better for verdict in verdicts if verdict.first_better is not None], level=level
    )


def turned(verdict: Verdict) -> Verdict:
    """The verdict on the same two responses in the other order."""
    better, scores = verdict.first_better, verdict.scores
    return replace(
        verdict,
        first_better=None if better is None else 1 - better,
        scores=None if scores is None else (scores[1], scores[0]),
    )


def _key(judge: Judge, comparison: Comparison) -> bytes:
    prompt = comparison.prompt
    content = [judge.identity, prompt.prompt_id, prompt.text, comparison.first, comparison.second]
    return result_key("verdict", content)


def _verdict(content: dict[str, object]) -> Verdict:
    scores = content["scores"]
    return Verdict(**(content | {"scores": None if scores is None else tuple(scores)}))  # pyright: ignore

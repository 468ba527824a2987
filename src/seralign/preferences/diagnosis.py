"""Know your data before you train: what surface features alone predict, and pairs that repeat or contradict others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from seralign.errors import ConfigError
from seralign.intervals import Interval, share_interval
from seralign.preferences.circles import in_circles
from seralign.preferences.extras import needs
from seralign.preferences.noise import (
    FOLDS,
    LEAST_PROMPTS,
    MOST_TEXTS,
    Labelled,
    Noise,
    estimate_noise,
    noise_tables,
    question,
    text_probabilities,
)
from seralign.preferences.reviewed import Reviewed
from seralign.preferences.surface import FEATURES, LENGTH, features
from seralign.records import Example, Pair, content_id
from seralign.tables import ABSENT, Table

NEAR = 0.9
"""Share of common tokens from which two responses are nearly identical."""
ALL = "all features"


@dataclass(frozen=True)
class Predicted:
    """How often a feature alone, or all together, name the chosen response of pairs that were not learned from.

    Args:
        name: Of the feature.
        accuracy: Share of the pairs; one half where both responses have the same.
        more: Share of the pairs that differ whose chosen response has more of it; None for ``ALL`` and where none does.
    """

    name: str
    accuracy: Interval
    more: float | None


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a data set of pairs.

    Args:
        pairs: Number of pairs.
        prompts: Number of different prompts.
        duplicates: Pairs whose prompt and two responses came before, in this order.
        contradictions: Pairs of which another one says the opposite.
        circles: Other pairs whose preferences are on a circle (a over b, b over c, c over a).
        near_identical: Pairs whose responses have at least ``NEAR`` of their tokens in common.
        overlap: Median share of common tokens of the two responses.
        predicted: What features predict, best first, all together at the beginning; empty with too few prompts.
        noise: How many labels are probably wrong; None with too few prompts.
    """

    pairs: int
    prompts: int
    duplicates: int
    contradictions: int
    circles: int
    near_identical: int
    overlap: float
    predicted: tuple[Predicted, ...]
    noise: Noise | None


def diagnose(examples: Iterable[Example], reviewed: Reviewed | None = None) -> Diagnosis:
    """Diagnose pairs; examples of other forms are ignored. Memory grows by about 500 bytes a pair.

    Args:
        examples: The pairs.
        reviewed: Probabilities of their labels. Without them, the noise of the labels is estimated from the texts.

    Raises:
        ConfigError: ``reviewed`` has none of the pairs.
    """
    rows: list[np.ndarray] = []
    pairs: list[Labelled] = []
    texts: list[tuple[str, str]] = []
    overlaps: list[float] = []
    seen: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for example in examples:
        if not isinstance(example.preference, Pair):
            continue
        prompt, (chosen, rejected) = example.prompt, example.responses
        one, other = (np.array(features(prompt.text, each.text, each.ids)) for each in (chosen, rejected))
        rows.append(one - other)
        pairs.append(Labelled(example.example_id, prompt.prompt_id, question(prompt)))
        if reviewed is None and len(texts) < MOST_TEXTS:
            texts.append((chosen.text, rejected.text))
        overlaps.append(overlap(chosen.ids, rejected.ids))
        seen[prompt.prompt_id][content_id(chosen.ids), content_id(rejected.ids)] += 1
    opposite = {key: {pair for pair in own if pair[::-1] in own} for key, own in seen.items()}
    circles = {key: in_circles(own) - opposite[key] for key, own in seen.items()}
    enough = len(seen) >= LEAST_PROMPTS
    differences, prompts = np.array(rows), [one.prompt_id for one in pairs]
    return Diagnosis(
        pairs=len(rows),
        prompts=len(seen),
        duplicates=sum(count - 1 for own in seen.values() for count in own.values()),
        contradictions=sum(seen[key][pair] for key, own in opposite.items() for pair in own),
        circles=sum(seen[key][pair] for key, own in circles.items() for pair in own),
        near_identical=sum(each >= NEAR for each in overlaps),
        overlap=float(np.median(overlaps)) if overlaps else 0.0,
        predicted=tuple(_predicted(differences, prompts)) if enough else (),
        noise=_noise(differences, texts, pairs, reviewed) if enough else None,
    )


def overlap(one: Iterable[int], other: Iterable[int]) -> float:
    """Share of the tokens of the longer response that the other one has, too, each as often as it occurs.

    Worked by hand: of 1, 1, 2 and 1, 2, 3, 4 two tokens are common, and the share is 2 / 4.
    """
    first, second = Counter(one), Counter(other)
    return (first & second).total() / max(first.total(), second.total(), 1)


def tables(found: Diagnosis) -> Iterator[Table]:
    """The diagnosis as tables."""
    counts = (
        ("pairs", f"{found.pairs:,}"),
        ("different prompts", f"{found.prompts:,}"),
        ("duplicates", f"{found.duplicates:,}"),
        ("contradicted by another pair", f"{found.contradictions:,}"),
        ("in a circle of preferences", f"{found.circles:,}"),
        (f"nearly identical responses ({100 * NEAR:g}% of the tokens)", f"{found.near_identical:,}"),
        ("common tokens of chosen and rejected, median", f"{100 * found.overlap:.0f}%"),
    )
    yield Table("Pairs", ("", "count"), counts)
    if not found.predicted:
        return
    rows = tuple(
        (one.name, f"{100 * one.accuracy.mean:.1f}%", _range(one.accuracy), _share(one.more)) for one in found.predicted
    )
    heading = ("feature", "accuracy", "95% interval", "chosen has more")
    yield Table("What surface features alone predict (cross-validated)", heading, rows)
    if found.noise is not None:
        yield from noise_tables(found.noise)


def _range(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return ABSENT
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}%"


def _share(more: float | None) -> str:
    return ABSENT if more is None else f"{100 * more:.1f}%"


def _noise(
    differences: np.ndarray, texts: list[tuple[str, str]], pairs: list[Labelled], reviewed: Reviewed | None
) -> Noise | None:
    if reviewed is not None:
        known = [one for one in pairs if one.example_id in reviewed.p]
        if not known:
            raise ConfigError("--margins: the run has reviewed none of these pairs; give a run on the same data")
        p = np.array([reviewed.p[one.example_id] for one in known])
        return estimate_noise(p, known, reviewed.basis, len(pairs) - len(known))
    known = pairs[: len(texts)]
    if len({one.prompt_id for one in known}) < LEAST_PROMPTS:
        return None
    p = text_probabilities(differences[: len(texts)], texts, [one.prompt_id for one in known])
    first = f", of the first {len(texts):,} pairs" if len(texts) < len(pairs) else ""
    basis = f"words and surface features of the responses, cross-validated{first}"
    return estimate_noise(p, known, basis, len(pairs) - len(known))


def _predicted(differences: np.ndarray, prompts: list[str]) -> Iterator[Predicted]:
    """All features together, then each alone, best first.

    Args:
        differences: Of the features, chosen minus rejected [N, F].
        prompts: The prompt of each pair [N]; the pairs of one are all learned from, or none is.
    """
    yield _accuracy(ALL, differences, prompts)
    alone = [_accuracy(name, differences[:, [place]], prompts) for place, name in enumerate(FEATURES)]
    yield from sorted(alone, key=lambda one: (-one.accuracy.mean, one.name != LENGTH))


def _accuracy(name: str, differences: np.ndarray, prompts: list[str]) -> Predicted:
    with needs("scikit-learn", "--diagnose"):
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GroupKFold
    right = np.full(len(differences), 0.5)
    for learned, left in GroupKFold(FOLDS).split(differences, groups=prompts):
        scale = differences[learned].std(axis=0)
        scale[scale == 0] = 1.0
        known = differences[learned] / scale
        # Each pair both ways round, without an intercept: the order of two responses says nothing.
        rows, sides = np.concatenate([known, -known]), np.repeat([1, 0], len(known))
        scores = differences[left] / scale @ LogisticRegression(fit_intercept=False).fit(rows, sides).coef_[0]
        right[left] = np.where(scores == 0, 0.5, scores > 0)
    interval = share_interval(right, prompts)
    assert interval is not None
    one = differences[:, 0] if differences.shape[1] == 1 else np.zeros(0)
    more = float((one[one != 0] > 0).mean()) if (one != 0).any() else None
    return Predicted(name, interval, more)

"""How many labels of pairs are probably wrong: confident learning, by cleanlab, on probabilities that did not see them.

The estimate is as good as the probabilities. Where they are poor, labels that are hard to predict count as wrong.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.intervals import Interval, share_interval
from seralign.preferences.extras import needs
from seralign.preferences.groups import text_of
from seralign.records import Prompt
from seralign.tables import Table

FOLDS = 5
LEAST_PROMPTS = 20
"""Prompts that cross-validation needs."""
MOST_TEXTS = 20_000
"""Pairs whose words are learned from, at most: the first ones."""
_WORDS = 2**16
_SHOWN = 5
_BEGINNING = 60


@dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong.

    Args:
        example_id: Of the pair.
        prompt: The beginning of what its prompt asks.
        p: The probability that its chosen response is better.
    """

    example_id: str
    prompt: str
    p: float


@dataclass(frozen=True)
class Noise:
    """An estimate of wrong labels.

    Args:
        basis: What the probabilities are of.
        accuracy: Share of the pairs whose chosen response the probabilities prefer.
        wrong: Share of the labels that are probably wrong. None if the probabilities say nothing of the labels.
        suspects: The least likely of them.
        unjudged: Pairs without a probability.
    """

    basis: str
    accuracy: Interval
    wrong: float | None
    suspects: tuple[Suspect, ...]
    unjudged: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """A pair: its id, and the id and the beginning of its prompt, as ``question`` gives it."""

    example_id: str
    prompt_id: str
    prompt: str


def question(prompt: Prompt) -> str:
    """The beginning of what a prompt asks, in one line: of the last user message of a conversation, else of its text.

    A conversation begins with a system message that may be the same in all rows.
    """
    messages = [] if prompt.messages is None else json.loads(prompt.messages)
    asked = [message for message in messages if message.get("role") == "user"]
    text = text_of(asked[-1]) if asked else prompt.text
    return " ".join(text[: 4 * _BEGINNING].split())[:_BEGINNING]


def estimate_noise(p: np.ndarray, pairs: Sequence[Labelled], basis: str, unjudged: int) -> Noise:
    """Estimate how many labels are wrong, counting all of them as hard.

    Worked by hand: of four pairs the chosen response is better with probabilities 0.9, 0.9, 0.9 and 0.2. Labels have
    0.725 on average. The other response of the last pair is that likely or more, 0.8, so one label in four is wrong.

    Args:
        p: The probability [N] that the chosen response is better, of a model that was not trained on the pair.
        pairs: The pairs [N].
        basis: What the probabilities are of.
        unjudged: Pairs without a probability.
    """
    accuracy = share_interval(np.where(p == 0.5, 0.5, p > 0.5), [one.prompt_id for one in pairs])
    assert accuracy is not None
    # One half is no opinion.
    known = np.flatnonzero(p != 0.5)
    if accuracy.low is None or accuracy.low <= 0.5:
        return Noise(basis, accuracy, None, (), unjudged)
    with needs("cleanlab", "--diagnose"):
        from cleanlab.count import estimate_joint
        from cleanlab.filter import find_label_issues
    # Each pair both ways round: the order of two responses says nothing.
    own = p[known]
    sides = np.repeat([1, 0], len(own))
    better = np.concatenate([own, 1.0 - own])
    both = np.stack([1.0 - better, better], axis=1)
    with warnings.catch_warnings():
        # cleanlab warns where it finds no wrong label.
        warnings.simplefilter("ignore")
        joint: Any = estimate_joint(sides, both)
        found: Any = find_label_issues(sides, both, n_jobs=1)
    wrong = known[found[: len(own)]]
    least = wrong[np.argsort(p[wrong], kind="stable")][:_SHOWN].tolist()
    suspects = tuple(Suspect(pairs[at].example_id, pairs[at].prompt, float(p[at])) for at in least)
    return Noise(basis, accuracy, float(1.0 - np.trace(joint)), suspects, unjudged)


def text_probabilities(differences: np.ndarray, texts: Sequence[tuple[str, str]], prompts: Sequence[str]) -> np.ndarray:
    """The probability [N] that the chosen response is better, by its words and surface features.

    A logistic regression of the differences of the two responses is learned on four fifths of the prompts, and applied
    to the rest.

    Args:
        differences: Of the features, chosen minus rejected [N, F].
        texts: The chosen and the rejected response [N].
        prompts: The prompt of each pair [N], ``LEAST_PROMPTS`` or more in all.
    """
    with needs("scikit-learn", "--diagnose"):
        from scipy.sparse import csr_matrix, hstack
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GroupKFold
    words: Any = HashingVectorizer(n_features=_WORDS, alternate_sign=False)
    scale = differences.std(axis=0)
    scale[scale == 0] = 1.0
    found = words.transform(chosen for chosen, _ in texts) - words.transform(rejected for _, rejected in texts)
    rows: Any = hstack([csr_matrix(differences / scale), found], format="csr")
    # The order of two responses says nothing: without an intercept, a pair the other way round is the same pair.
    sides = np.arange(len(texts)) % 2
    turned: Any = rows.multiply(np.where(sides == 1, 1.0, -1.0)[:, None]).tocsr()
    p = np.full(len(texts), 0.5)
    for learned, left in GroupKFold(FOLDS).split(differences, groups=prompts):
        if len(set(sides[learned].tolist())) == 2:
            model = LogisticRegression(fit_intercept=False, solver="liblinear", random_state=0)
            model.fit(turned[learned], sides[learned])
            p[left] = model.predict_proba(rows[left])[:, 1]
    return p


def noise_tables(noise: Noise) -> Iterator[Table]:
    """The estimate as tables."""
    low, high = noise.accuracy.low, noise.accuracy.high
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f}%)"
    rows = [
        ("rests on", noise.basis),
        ("pairs", f"{noise.accuracy.n:,}"),
        *([("pairs without a probability", f"{noise.unjudged:,}")] if noise.unjudged else []),
        ("labels that it predicts", f"{100 * noise.accuracy.mean:.1f}%{interval}"),
        ("labels that are probably wrong",
         "no estimate: it predicts labels no better than a coin" if noise.wrong is None
         else f"{100 * noise.wrong:.1f}%"),
    ]  # fmt: skip
    yield Table("Label noise (estimated by cleanlab)", ("", "value"), tuple(rows))
    if noise.suspects:
        suspects = tuple((one.example_id, f"{100 * one.p:.1f}%", one.prompt) for one in noise.suspects)
        yield Table("Least likely labels", ("pair", "probability", "prompt"), suspects)

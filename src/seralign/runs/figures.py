"""The figures of each kind of stage: a frozen dataclass each, kept as JSON in ``stage.json`` by the same names.

Margins, log-ratios and KL are in nats, lengths in tokens. A figure is None where it was not measured or is not defined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from seralign.intervals import Interval
from seralign.runs.calibration import CalibrationFigures

# A line of metrics.jsonl: numbers by name (see seralign.runs.layout); None in place of one that is not finite.
Metrics = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class WorldFigures:
    """Of ``world``: rows of each file, and pairs left out, by reason; empty for a built-in world."""

    rows: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrecisionFigures:
    """Of ``precision``: what ``auto`` stands for, and why: the processor, and its GFLOP/s a core by data type."""

    precision: str
    processor: str | None
    gflops: dict[str, float] | None


@dataclass(frozen=True, slots=True)
class BaseFigures:
    """Of ``base``: ``policy.adapter`` merged into ``policy.model``.

    ``hub`` is the model's name on the hub, if it has one. ``difference`` is the mean distance at ``tokens`` tokens from
    model and adapter, ``change`` from the model alone, of log-probabilities in nats; of rewards for a reward model
    (``what``).
    """

    what: str
    dtype: str
    tokens: int
    difference: float
    change: float
    model: str
    adapter: str
    hub: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class AverageFigures:
    """Of ``average``: the moving average of the policies before a round, and the weight of the earlier ones in it."""

    digest: str
    decay: float


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A policy's name, where it is, and the digest of its weights.

    ``other_base``: the model that its adapter was trained on, where that is another than the one that it is put on.
    """

    name: str
    source: str
    digest: str
    other_base: str | None = None


@dataclass(frozen=True, slots=True)
class BasePolicy:
    """The model that the run was given; ``hub``: its name there, if it has one; ``dtype``: of its stored weights;
    ``other_base`` as in ``NamedPolicy``."""

    name: str
    source: str
    digest: str
    hub: str | None
    dtype: str
    other_base: str | None = None


@dataclass(frozen=True, slots=True)
class PoliciesFigures:
    """Of ``policies``: the model as given, the policy that the rounds start from, and the reference."""

    base: BasePolicy
    initial: NamedPolicy
    reference: NamedPolicy


@dataclass(frozen=True, slots=True)
class TrainFigures:
    """Of a training: ``train`` is the last logged line of training metrics, ``heldout_first`` and ``heldout`` the
    held-out ones before and after it (empty without held-out pairs); ``digest``: of the trained weights."""

    steps: int
    pairs: int
    train: dict[str, float | None]
    heldout_first: dict[str, float | None]
    heldout: dict[str, float | None]
    digest: str


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """Of ``score``: margins of the offline pairs under the last policy, and the share of them above zero."""

    margin_mean: float
    accuracy: float | None
    cache_hits: int
    cache_misses: int


@dataclass(frozen=True, slots=True)
class SelectFigures:
    """Of ``select``: the offline pairs in play and kept. ``length_slope``: nats a token; ``length_difference``: mean of
    chosen less rejected tokens; ``similarity_kept``: mean share of bigrams that both have in common; ``trusted``: False
    if ``scoring.min_accuracy`` kept the round from using margins."""

    pairs: int
    kept: int
    margin_mean: float
    margin_mean_kept: float
    margin_smallest_kept: float
    length_slope: float
    margin_length_correlation: float | None
    margin_length_correlation_kept: float | None
    length_difference: float
    length_difference_kept: float
    similarity_kept: float | None
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class SampleFigures:
    """Of ``sample``: what the policy ``sampled_from`` answered to the round's prompts. ``dropped``: responses that do
    not fit the policy's tokenizer; they are not among ``responses``."""

    sampled_from: str
    prompts: int
    responses: int
    length: float
    unfinished: float
    distinct_2: float | None
    dropped: int


@dataclass(frozen=True, slots=True)
class BootstrapFigures:
    """Of ``bootstrap``: generated pairs, kept ones, prompts without, by reason; nats that rewards lost for each token;
    chosen less rejected tokens; share of pairs whose chosen response is longer, equal ones half; mean agreement of the
    last two policies on rankings, with ``bootstrap.agreement``."""

    pairs: int
    kept: int
    left_out: dict[str, int]
    margin_mean: float | None
    length_slope: float
    length_difference_kept: float | None
    chosen_longer_kept: float | None
    margin_length_correlation: float | None
    similarity_kept: float | None
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class ComposeFigures:
    """Of ``compose``: pairs to train on by origin, the share of generated ones, and the share that was asked for."""

    offline: int
    generated: int
    share: float
    share_wanted: float


@dataclass(frozen=True, slots=True)
class TokensFigures:
    """Of ``tokens``: pairs whose tokens have log-ratios."""

    pairs: int


@dataclass(frozen=True, slots=True)
class DecideFigures:
    """Of ``decide``: whether the rounds end and why, the best round so far, and what the round did harm to, if any."""

    stop: bool
    reason: str
    best_round: int
    harm: str | None


@dataclass(frozen=True, slots=True)
class CrossfitFigures:
    """Of ``crossfit/review``: pairs judged and kept by copies of the policy.

    ``scale`` turns margins into labels, ``accuracy`` is the share of pairs that the copies order as labelled,
    ``swapped`` the share whose label changed sides, ``certainty`` the mean of |2p - 1|.
    """

    pairs: int
    kept: int
    copies: int
    scale: float
    accuracy: float
    swapped: float
    certainty: float


@dataclass(frozen=True, slots=True)
class ResultFigures:
    """Of ``result``: whose policy it is and why, its weights, and win rates of every policy against every other.

    Where the weights were cast to another ``dtype``, ``trained_digest`` is the digest before, and ``kept_change`` the
    share of the training's change that is left (None for an adapter).
    """

    policy: str
    digest: str
    reason: str
    win_rates: dict[str, dict[str, Interval]]
    dtype: str
    kept_change: float | None
    trained_digest: str | None


@dataclass(frozen=True, slots=True)
class EvaluateFigures:
    """Of an evaluation: what was measured on one policy.

    Args:
        name: Name of the policy.
        n: Sampled responses.
        score: Their mean score by the scorer, gold reward in the built-in world.
        win_rates: Name of another policy to the win rate against it on the same prompts, ties half.
        kl: Mean over the responses of log pi - log pi_ref (nats): an estimate of KL(pi, pi_ref) without bias where
            sampling was at temperature 1 and top-p 1.
        length: Mean length of the responses in tokens.
        distinct_2: Different bigrams over all bigrams.
        self_bleu: Mean BLEU of each response (of at most 500) against all others: how alike they are.
        repetition: Share of responses in which some 4-gram occurs twice.
        unfinished: Share of responses without an end within the length limit.
        heldout_accuracy: Share of held-out pairs with a margin above zero, ties half; pairs of a prompt are one group.
        heldout_margin: Mean margin (nats) of the held-out pairs.
        margin_length_correlation: Correlation of their margins with chosen less rejected tokens.
        calibration: Of the probabilities sigmoid(beta margin) on the held-out pairs against their labels. None for the
            reference itself, whose margins are all zero.
        by_column: Of a reward model: held-out accuracy by the values of each column in ``data.keep_columns``.

    Raises:
        ValueError: a figure is not finite.
    """

    name: str
    n: int = 0
    score: Interval | None = None
    win_rates: dict[str, Interval] = field(default_factory=dict)
    kl: Interval | None = None
    length: float | None = None
    distinct_2: float | None = None
    self_bleu: float | None = None
    repetition: float | None = None
    unfinished: float | None = None
    heldout_accuracy: Interval | None = None
    heldout_margin: float | None = None
    margin_length_correlation: float | None = None
    calibration: CalibrationFigures | None = None
    by_column: dict[str, dict[str, Interval]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, value in _numbers(asdict(self)):
            if not math.isfinite(value):
                raise ValueError(f"{key} of policy {self.name!r} must be finite, got {value}")


def _numbers(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            yield prefix + key, value

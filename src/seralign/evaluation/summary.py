"""The figures of one evaluated policy, as a record that goes through JSON unchanged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from seralign.errors import ModelError
from seralign.evaluation.metrics import correlation, distinct_n, ranked_right, repetition
from seralign.intervals import Interval, mean_interval, share_interval

_INTERVALS = ("score", "kl", "heldout_accuracy")


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """What was measured on one policy; ``None`` where it was not measured or is undefined.

    Args:
        name: Name of the policy.
        n: Sampled responses.
        score: Mean score of the responses by the scorer, gold reward in the built-in world.
        win_rates: Name of another policy to the win rate against it on the same prompts, ties half.
        kl: Mean over the responses of log pi - log pi_ref (nats): an estimate of KL(pi, pi_ref) without bias where
            sampling was at temperature 1 and top-p 1.
        length: Mean length of the responses in tokens.
        distinct_2: Different bigrams over all bigrams.
        repetition: Share of responses in which some 4-gram occurs twice.
        unfinished: Share of responses without an end within the length limit.
        heldout_accuracy: Share of held-out pairs with a margin above zero, ties half; its interval takes pairs of one
            prompt as one group.
        heldout_margin: Mean margin (nats) of the held-out pairs.
        margin_length_correlation: Correlation over the held-out pairs of margin with the length of the chosen less
            that of the rejected response.
    """

    name: str
    n: int = 0
    score: Interval | None = None
    win_rates: dict[str, Interval] = field(default_factory=dict)
    kl: Interval | None = None
    length: float | None = None
    distinct_2: float | None = None
    repetition: float | None = None
    unfinished: float | None = None
    heldout_accuracy: Interval | None = None
    heldout_margin: float | None = None
    margin_length_correlation: float | None = None

    def __post_init__(self) -> None:
        for key, value in _numbers(asdict(self)):
            if not math.isfinite(value):
                raise ValueError(f"{key} of policy {self.name!r} must be finite, got {value}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without NaN."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> PolicyFigures:
        """The record that ``to_dict`` wrote."""
        intervals = {key: Interval(**content[key]) for key in _INTERVALS if content[key] is not None}
        rates = {rival: Interval(**rate) for rival, rate in content["win_rates"].items()}
        return cls(**{**content, **intervals, "win_rates": rates})


def summarise(
    name: str,
    responses: Sequence[Sequence[int]],
    finished: Sequence[bool],
    *,
    scores: ArrayLike | None = None,
    win_rates: Mapping[str, Interval] | None = None,
    log_ratios: ArrayLike | None = None,
    margins: ArrayLike | None = None,
    prompt_ids: Sequence[str] | None = None,
    length_differences: ArrayLike | None = None,
) -> PolicyFigures:
    """All figures of a policy; those whose input is left out are ``None``.

    Args:
        name: Name of the policy.
        responses: Token ids of N sampled responses.
        finished: Whether each ended by itself [N].
        scores: Their scores [N].
        win_rates: Name of another policy to the win rate against it.
        log_ratios: log pi - log pi_ref of the responses [N], nats.
        margins: Margins of the held-out pairs [M], nats.
        prompt_ids: Their prompts [M]; by default each pair has a prompt of its own.
        length_differences: Tokens of the chosen less those of the rejected response [M].

    Raises:
        ModelError: A log-ratio or a margin is not finite: the policy diverged.
        ValueError: A score is not finite, or lengths do not fit.
    """
    if len(finished) != len(responses):
        raise ValueError(f"finished must have one value a response, got {len(finished)} for {len(responses)}")
    for what, values in (("log-ratio", log_ratios), ("held-out margin", margins)):
        if values is not None and not np.isfinite(values).all():
            raise ModelError(
                f"policy {name!r} has a {what} that is not finite: its training diverged; "
                "lower training.learning_rate or set training.max_grad_norm"
            )
    mean_margin = None if margins is None else mean_interval(margins)
    return PolicyFigures(
        name=name,
        n=len(responses),
        score=None if scores is None else mean_interval(scores),
        win_rates=dict(win_rates or {}),
        kl=None if log_ratios is None else mean_interval(log_ratios),
        length=float(np.mean([len(ids) for ids in responses])) if responses else None,
        distinct_2=distinct_n(responses, 2),
        repetition=repetition(responses),
        unfinished=1.0 - float(np.mean(finished)) if responses else None,
        heldout_accuracy=None if margins is None else share_interval(ranked_right(margins), prompt_ids),
        heldout_margin=None if mean_margin is None else mean_margin.mean,
        margin_length_correlation=(
            None if margins is None or length_differences is None else correlation(margins, length_differences)
        ),
    )


def _numbers(content: Any, key: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _numbers(value, f"{key}.{name}" if key else name)
    elif isinstance(content, float):
        yield key, content

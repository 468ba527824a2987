"""Figures of an evaluated policy, from its sampled responses and the held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from seralign.errors import ModelError
from seralign.evaluation.calibration import calibration
from seralign.evaluation.metrics import distinct_n, ranked_right, repetition, self_bleu
from seralign.intervals import Interval, correlation, mean_interval, share_interval
from seralign.runs.figures import EvaluateFigures


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
    labels: ArrayLike | None = None,
    beta: float = 1.0,
) -> EvaluateFigures:
    """All figures of a policy. Figures without input are ``None``.

    Args:
        name: Name of the policy.
        responses: Token ids of N sampled responses.
        finished: Whether each response has an end token [N].
        scores: Their scores [N].
        win_rates: Mapping from the name of another policy to the win rate against it.
        log_ratios: log pi - log pi_ref of the responses [N], nats.
        margins: Margins of the held-out pairs [M], nats.
        prompt_ids: Their prompts [M]. By default, all prompts are different.
        length_differences: Tokens of the chosen response minus those of the rejected response [M].
        labels: Probability that the chosen response is better [M], for the calibration.
        beta: Factor of the margins in the log-odds of a preference.

    Raises:
        ModelError: A log-ratio or a margin is not finite: the policy diverged.
        ValueError: A score is not finite, or lengths do not fit.
    """
    if len(finished) != len(responses):
        raise ValueError(f"finished must have one value per response, got {len(finished)} for {len(responses)}")
    for what, values in (("log-ratio", log_ratios), ("held-out margin", margins)):
        if values is not None and not np.isfinite(values).all():
            raise ModelError(
                f"policy {name!r} has a {what} that is not finite: its training diverged; "
                "lower training.learning_rate or set training.max_grad_norm"
            )
    mean_margin = None if margins is None else mean_interval(margins)
    return EvaluateFigures(
        name=name,
        n=len(responses),
        score=None if scores is None else mean_interval(scores),
        win_rates=dict(win_rates or {}),
        kl=None if log_ratios is None else mean_interval(log_ratios),
        length=float(np.mean([len(ids) for ids in responses])) if responses else None,
        distinct_2=distinct_n(responses, 2),
        self_bleu=self_bleu(responses),
        repetition=repetition(responses),
        unfinished=1.0 - float(np.mean(finished)) if responses else None,
        heldout_accuracy=None if margins is None else share_interval(ranked_right(margins), prompt_ids),
        heldout_margin=None if mean_margin is None else mean_margin.mean,
        margin_length_correlation=(
            None if margins is None or length_differences is None else correlation(margins, length_differences)
        ),
        calibration=None
        if margins is None or labels is None
        else calibration(beta * np.asarray(margins, np.float64), labels, prompt_ids),
    )

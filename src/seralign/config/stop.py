"""When the rounds of a run end early."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from seralign.checks import require
from seralign.errors import ConfigError

# Warnings of the report that concern a round. docs/report.md describes them.
StopWarning = Literal[
    "length", "diversity", "repetition", "unfinished", "kl", "harm", "win_rate", "fall", "length_bias",
    "generated_length", "generated_margins", "alike", "few", "saturated", "chosen_logp",
]  # fmt: skip


@dataclass(frozen=True)
class StopConfig:
    """When the rounds end early.

    Args:
        metric: ``margin_accuracy`` on held-out pairs; ``win_rate`` against the best round so far, which needs a scorer
            or a judge; or ``never``.
        min_gain: A round gains if its metric is more than this above that of the best round so far; for ``win_rate``,
            more than this above one half. The result is the last round that gained. Default: 0 for ``win_rate``, and
            -0.05 for ``margin_accuracy``, because the accuracy on pairs that others wrote falls a little while answers
            still get better (docs/evidence.md).
        bound: The figure of the win rate's 95% interval that must be above one half plus ``min_gain``. ``lower``: its
            lower end, so that only a sure win is a gain. ``mean``: the win rate itself. ``upper``: its upper end, so
            that everything but a sure loss is a gain.
        patience: Number of consecutive rounds without a gain after which the run ends.
        warnings: Warnings of the report that end the run after the round that has one of them, whatever ``metric`` and
            ``patience`` are. Such a round is no gain, so the result is the best round before it; after round 1, it is
            round 1.
    """

    metric: Literal["margin_accuracy", "win_rate", "never"] = "margin_accuracy"
    min_gain: float | None = None
    bound: Literal["lower", "mean", "upper"] = "mean"
    patience: int = 1
    warnings: list[StopWarning] = field(default_factory=list)

    def __post_init__(self) -> None:
        require(self.patience >= 1, "patience", "at least 1", self.patience)
        if self.bound != "mean" and self.metric != "win_rate":
            raise ConfigError(
                f"bound: {self.bound} is a bound of a win rate, and metric is {self.metric}; set metric: win_rate, "
                "or remove bound"
            )
        twice = next((kind for kind in self.warnings if self.warnings.count(kind) > 1), None)
        if twice is not None:
            raise ConfigError(f"warnings: {twice} is given twice; give it once")

    @property
    def least_gain(self) -> float:
        """``min_gain``, or its default."""
        default = -0.05 if self.metric == "margin_accuracy" else 0.0
        return default if self.min_gain is None else self.min_gain

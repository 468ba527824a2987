"""What a round does to the data, how policies are measured, and when the rounds end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from seralign.checks import fraction, positive, require
from seralign.config.fields import INLINE
from seralign.config.sampling import SamplingConfig
from seralign.config.secrets import refuse_secrets
from seralign.config.training import Precision
from seralign.errors import ConfigError


@dataclass(frozen=True)
class ScoringConfig:
    """Log-probabilities of the data under the policies, and the reward ensemble.

    Args:
        dtype: Precision of the forward passes that score. ``bfloat16`` and ``float16`` are mixed precision over the
            policy's own weights, in which rounding can reorder close margins; in ``bfloat16`` answers are sampled with
            weights cast to it. ``auto`` takes the faster of ``float32`` and ``bfloat16``.
        tokens_per_pack: Most tokens in one forward pass, counted as in training.
        cache: File of the log-probability cache; by default in the run. Give one file to several runs to share.
        ensemble_weight: Weight w of the policy before the last in the ensembled margin, (1 - w) h1 + w h2; gamma in
            the paper.
        length_correction: Take from margins and rewards the part that the length of the responses explains, before
            pairs are selected or made by them.
    """

    dtype: Precision = "auto"
    tokens_per_pack: int = 4096
    cache: str | None = None
    ensemble_weight: float = 0.3
    length_correction: bool = True

    def __post_init__(self) -> None:
        positive(self.tokens_per_pack, "tokens_per_pack")
        require(0.0 <= self.ensemble_weight <= 1.0, "ensemble_weight", "in [0, 1]", self.ensemble_weight)


@dataclass(frozen=True)
class SelectionConfig:
    """Which scored pairs are kept.

    Args:
        rule: ``top``, ``middle`` or ``bottom`` fraction by margin, ``threshold`` on the margin, ``random`` fraction,
            or ``all``.
        fraction: Share kept by the fraction rules.
        threshold: Smallest margin kept (nats) by the threshold rule.
    """

    rule: Literal["top", "middle", "bottom", "threshold", "random", "all"] = "top"
    fraction: float = 0.7
    threshold: float | None = None

    def __post_init__(self) -> None:
        fraction(self.fraction, "fraction")
        if (self.rule == "threshold") != (self.threshold is not None):
            raise ConfigError(
                "threshold goes with rule: threshold, and only with it "
                f"(rule is {self.rule!r}, threshold is {self.threshold!r})"
            )


@dataclass(frozen=True)
class CrossfitConfig:
    """A review of the data before round 1, by copies of the policy that have not seen the pairs that they judge.

    Args:
        folds: Number of copies. Each is trained, as round 1 is, on all pairs but those of its own fold of the prompts,
            and gives those their margins. So many trainings come before round 1.
        trust: Probability that a label of the data is right by itself. At 0.5 the margins alone make the labels; at 1
            hard labels stay as they are.
        keep: Share of the pairs that stay, those with the largest margins in favour of what the new label prefers.
    """

    folds: int = 4
    trust: float = 0.5
    keep: float = 1.0

    def __post_init__(self) -> None:
        require(self.folds >= 2, "folds", "at least 2", self.folds)
        require(0.5 <= self.trust <= 1.0, "trust", "in [0.5, 1]", self.trust)
        fraction(self.keep, "keep")
        if self.trust == 1.0 and self.keep == 1.0:
            raise ConfigError(
                "trust: 1 and keep: 1 change no hard label and drop no pair; lower one of them, or leave crossfit out"
            )


@dataclass(frozen=True)
class BootstrapConfig:
    """Pairs that are made of sampled answers, by the policies' own rewards.

    Args:
        sample_from: The policy that answers the prompts: the last one (``policy``), the one before it (``previous``),
            or the one that round 1 started from (``initial``). The reward policies are the last ones in any case. The
            further a policy has moved from the reference, the less its own reward can tell its answers apart.
        samples: Responses per prompt (R).
        sampling: How they are sampled.
        prompts: Number of prompts each round, drawn anew; by default all.
        selection: Which of the generated pairs are kept.
        shares: Share of generated pairs in the training data of rounds 2, 3, ...; the last one holds on.
    """

    sample_from: Literal["policy", "previous", "initial"] = "initial"
    samples: int = 4
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.7), metadata=INLINE)
    prompts: int | None = None
    selection: SelectionConfig = field(default_factory=lambda: SelectionConfig(fraction=0.6))
    shares: list[float] = field(default_factory=lambda: [0.3])

    def __post_init__(self) -> None:
        require(self.samples >= 2, "samples", "at least 2 (a best and a worst)", self.samples)
        require(self.samples <= 10_000, "samples", "at most 10000", self.samples)
        require(self.prompts is None or self.prompts > 0, "prompts", "greater than 0", self.prompts)
        require(
            len(self.shares) > 0 and all(0.0 <= share < 1.0 for share in self.shares),
            "shares",
            "a list of numbers in [0, 1)",
            self.shares,
        )

    def share(self, round_index: int) -> float:
        """Share of generated pairs in round ``round_index`` (2, 3, ...)."""
        return self.shares[min(round_index - 2, len(self.shares) - 1)]


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured after each round.

    Args:
        prompts: Held-out prompts that each policy answers.
        sampling: How the answers are sampled.
        scorer: ``module:function`` that takes lists of prompts and of responses and returns scores. The built-in world
            brings its own.
        judge: Who decides which of two answers is better, for the win rates: ``scorer``, the one with the higher score;
            or ``module:class`` of your own (CONTRIBUTING.md). By default ``scorer``, where there is one.
        judge_options: The judge's own settings; ``scorer`` has none. Secrets are refused: a run's files have the
            configuration.
        baseline: Also train the objective on all pairs with as many steps as all rounds, to compare with.
        token_pairs: Pairs of each round, up to half of them generated, whose log-ratios are kept token by token for
            the report; 0 for none.
    """

    prompts: int = 200
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(batch_size=32), metadata=INLINE)
    scorer: str | None = None
    judge: str | None = None
    judge_options: dict[str, Any] = field(default_factory=dict)
    baseline: bool = False
    token_pairs: int = 100

    def __post_init__(self) -> None:
        require(self.prompts >= 0, "prompts", "at least 0", self.prompts)
        require(self.token_pairs >= 0, "token_pairs", "at least 0", self.token_pairs)
        refuse_secrets(self.judge_options, "judge_options")
        if self.judge_options and self.judge is None:
            raise ConfigError("judge_options go with judge, which names whom they are for")
        require(
            self.scorer is None or self.scorer.count(":") == 1,
            "scorer",
            "of the form module:function",
            self.scorer,
        )


@dataclass(frozen=True)
class StopConfig:
    """When the rounds end before the last.

    Args:
        metric: ``margin_accuracy`` on held-out pairs, ``win_rate`` against the best round so far (needs a scorer),
            or ``never``.
        min_gain: What a round has to be above the best one so far to count as a gain; for ``win_rate``, above one
            half. The result is the last round with a gain. By default 0 for ``win_rate`` and -0.05 for
            ``margin_accuracy``: on pairs that others wrote it falls a little while answers still get better
            (docs/evidence.md).
        patience: Rounds without gain in a row that end the run.
    """

    metric: Literal["margin_accuracy", "win_rate", "never"] = "margin_accuracy"
    min_gain: float | None = None
    patience: int = 1

    def __post_init__(self) -> None:
        require(self.patience >= 1, "patience", "at least 1", self.patience)

    @property
    def least_gain(self) -> float:
        """``min_gain``, or what stands for it."""
        default = -0.05 if self.metric == "margin_accuracy" else 0.0
        return default if self.min_gain is None else self.min_gain

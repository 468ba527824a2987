"""Settings of scoring, selection and evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from seralign.checks import fraction, positive, require
from seralign.config.fields import INLINE
from seralign.config.sampling import SamplingConfig
from seralign.config.secrets import refuse_secrets
from seralign.config.training import Precision
from seralign.errors import ConfigError

LengthCorrection = Literal["none", "offline", "within_prompt", "balanced", "matched"]


@dataclass(frozen=True)
class ScoringConfig:
    """Log-probabilities of the data under the policies, and the reward ensemble.

    Args:
        dtype: Precision of the forward passes for scoring. ``bfloat16`` and ``float16`` mean mixed precision with the
            policy's own weights; rounding can then change the order of close margins. With ``bfloat16``, answers are
            sampled with weights cast to it. ``auto`` uses the faster of ``float32`` and ``bfloat16``.
        tokens_per_pack: Maximum number of tokens in one forward pass, counted as in ``training``.
        cache: File of the log-probability cache. Default: a file in the run. Several runs can share one file.
        ensemble_weight: Weight w of the policy before the last in the ensembled margin, (1 - w) h1 + w h2. It is gamma
            in the paper.
        length_correction: How the part of margins and rewards that length explains is removed, before pairs are
            selected or generated with them. ``none``: not at all. With all other values, margins of offline pairs lose
            b nats per token, b fitted on them at equal labels. Rewards of sampled responses: ``offline``, they lose the
            same b, which can have the wrong sign for them; ``within_prompt``, they lose their own slope, fitted on the
            responses to the same prompts; ``balanced``, they lose the penalty with which chosen and rejected responses
            are equally long on average; ``matched``, they lose nothing, and only two responses of like length make a
            pair.
        reward: What ranks offline pairs and sampled responses: the ``implicit`` reward of the policies; the rewards of
            ``reward_models`` (``model``); or both (``mixed``), each divided by its standard deviation, over the margins
            of the offline pairs, or over the candidates of each prompt.
        reward_models: Folders of reward models with the policy's tokenizer (docs/reward_models.md). With several, the
            mean of their rewards counts.
        reward_penalty: How many standard deviations over the reward models their mean loses.
        reward_weight: Weight of the reward models in ``mixed``; the implicit reward has the rest.
        length_band: With ``matched``, by what share of the longer response's length the other one may be shorter.
            Default: 0.2.
        min_accuracy: Margins are used only if the last policy ranks held-out pairs with an accuracy that is surely
            above this: the lower end of its 95% interval. Otherwise the round keeps all pairs and generates none. 0.5
            means better than chance. Default: margins are used whatever the accuracy.
    """

    dtype: Precision = "auto"
    tokens_per_pack: int = 4096
    cache: str | None = None
    ensemble_weight: float = 0.3
    length_correction: LengthCorrection = "none"
    length_band: float | None = None
    reward: Literal["implicit", "model", "mixed"] = "implicit"
    reward_models: list[str] = field(default_factory=list)
    reward_penalty: float = 0.0
    reward_weight: float = 0.5
    min_accuracy: float | None = None

    def __post_init__(self) -> None:
        positive(self.tokens_per_pack, "tokens_per_pack")
        require(0.0 <= self.ensemble_weight <= 1.0, "ensemble_weight", "in [0, 1]", self.ensemble_weight)
        self._check_reward()
        if self.length_band is None:
            return
        require(0.0 <= self.length_band < 1.0, "length_band", "in [0, 1)", self.length_band)
        if self.length_correction != "matched":
            raise ConfigError(
                f"length_band is for length_correction: matched, which is {self.length_correction!r}; leave it out"
            )

    def _check_reward(self) -> None:
        require(0.0 <= self.reward_penalty < math.inf, "reward_penalty", "at least 0", self.reward_penalty)
        require(0.0 < self.reward_weight < 1.0, "reward_weight", "between 0 and 1", self.reward_weight)
        if self.reward == "implicit" and self.reward_models:
            raise ConfigError("reward_models are not read with reward: implicit; set reward: model or mixed")
        if self.reward != "implicit" and not self.reward_models:
            raise ConfigError(f"reward: {self.reward} needs reward_models, the folders of reward models")
        if self.reward_penalty and len(self.reward_models) < 2:
            raise ConfigError(
                "reward_penalty is of the disagreement of reward models; give two reward_models, or set 0"
            )
        least = self.min_accuracy
        require(least is None or 0.0 <= least < 1.0, "min_accuracy", "in [0, 1)", least)
        if least is not None and self.reward != "implicit":
            raise ConfigError(
                f"min_accuracy is of the implicit reward of the policies, and reward is {self.reward}; leave it out"
            )
        if self.reward != "mixed" and self.reward_weight != 0.5:
            raise ConfigError(f"reward_weight is for reward: mixed, which is {self.reward!r}; leave it out")

    @property
    def band(self) -> float:
        """``length_band``, or the default."""
        return 0.2 if self.length_band is None else self.length_band


@dataclass(frozen=True)
class SelectionConfig:
    """Which scored pairs are kept.

    Args:
        rule: ``top``, ``middle`` or ``bottom``: a fraction of the pairs, ranked by margin. ``top_within_prompt``: that
            fraction of the pairs of each prompt, at least one, so that no prompt is lost. ``threshold``: pairs with at
            least this margin. ``random``: a random fraction. ``all``: all pairs.
        fraction: Share of the pairs that is kept by the rules with a fraction.
        threshold: Smallest margin in nats that the rule ``threshold`` keeps.
    """

    rule: Literal["top", "middle", "bottom", "top_within_prompt", "threshold", "random", "all"] = "top"
    fraction: float = 0.7
    threshold: float | None = None

    def __post_init__(self) -> None:
        fraction(self.fraction, "fraction")
        if (self.rule == "threshold") != (self.threshold is not None):
            raise ConfigError(
                "threshold and rule: threshold must be set together "
                f"(rule is {self.rule!r}, threshold is {self.threshold!r})"
            )

    @property
    def count_known(self) -> bool:
        """Whether the rule keeps the same number of pairs whatever their margins are."""
        return self.rule != "threshold"


@dataclass(frozen=True)
class CrossfitConfig:
    """A review of the data before round 1, by copies of the policy that were not trained on the pairs that they score.

    Args:
        folds: Number of copies. Each copy is trained like round 1, on all pairs except those of its own fold of the
            prompts, and scores the pairs of its fold. This adds as many trainings before round 1.
        trust: Probability that a label of the data is right, without looking at the pair. At 0.5, the new labels come
            from the margins alone. At 1, hard labels do not change.
        keep: Share of the pairs that is kept: those with the largest margins in favour of the new label.
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
class EvaluationConfig:
    """What is measured after each round.

    Args:
        prompts: Number of held-out prompts (``data.heldout_prompts``) that each policy answers.
        sampling: How the answers are sampled.
        scorer: ``module:function``, a function that takes a list of prompts and a list of responses and returns one
            score for each response; or ``reward_model:FOLDER`` (docs/reward_models.md). A built-in world has its own.
        judge: Decides which of two answers is better, for the win rates: ``scorer`` (the higher score), ``server``,
            ``reward_model``, ``implicit``, ``function``, ``panel`` (docs/judges.md), or ``module:class`` of your own
            (docs/extending.md). Default: ``scorer``, if there is a scorer.
        judge_options: Settings of the judge; ``scorer`` has none. Secrets are refused, because the files of a run
            contain the configuration.
        store: File of the answers to held-out prompts, their scores, and the judge's verdicts, also of those that
            label pairs. Runs may share it: what one of them has sampled, scored or asked is not computed again, such as
            the answers of the policy that several runs start from. It may be changed when the run is resumed. Default:
            in the run.
        baseline: Also train a baseline for comparison: the objective on all pairs, with as many steps as all rounds
            together.
        token_pairs: Number of pairs in each round whose token log-ratios are stored for the report, up to half of them
            generated; 0 for none.
    """

    prompts: int = 200
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(batch_size=32), metadata=INLINE)
    scorer: str | None = None
    judge: str | None = None
    judge_options: dict[str, Any] = field(default_factory=dict)
    store: str | None = None
    baseline: bool = False
    token_pairs: int = 100

    def __post_init__(self) -> None:
        require(self.prompts >= 0, "prompts", "at least 0", self.prompts)
        require(self.token_pairs >= 0, "token_pairs", "at least 0", self.token_pairs)
        require(self.store is None or bool(self.store), "store", "the path of a file", self.store)
        refuse_secrets(self.judge_options, "judge_options")
        if self.judge_options and self.judge is None:
            raise ConfigError("judge_options need judge: set the judge that they are for")
        require(
            self.scorer is None or self.scorer.count(":") == 1,
            "scorer",
            "of the form module:function, or reward_model:FOLDER",
            self.scorer,
        )

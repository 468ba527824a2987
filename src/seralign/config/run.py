"""Every option of a run, with its default and the rule for its value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from seralign.errors import ConfigError

Precision = Literal["float32", "bfloat16", "float16"]
ObjectiveName = Literal["dpo", "ipo", "slic", "simpo", "sft"]

DEFAULT_BETA: dict[str, float] = {"dpo": 0.1, "ipo": 0.1, "slic": 0.1, "simpo": 2.0, "sft": 1.0}
DEFAULT_SIMPO_GAMMA = 1.0


def _require(condition: bool, key: str, rule: str, value: object) -> None:
    if not condition:
        raise ConfigError(f"{key} must be {rule}, got {value!r}")


def _fraction(value: float, key: str) -> None:
    _require(0.0 < value <= 1.0, key, "in (0, 1]", value)


def _positive(value: float, key: str) -> None:
    _require(value > 0 and math.isfinite(value), key, "greater than 0", value)


@dataclass(frozen=True)
class SourceConfig:
    """Where rows come from.

    Args:
        path: A local .json, .jsonl, .parquet or .csv file (also .gz), or a data set's name on the hub.
        name: Configuration (subset) of a hub data set.
        split: Split of a hub data set.
        revision: Commit or tag of a hub data set; recorded as resolved.
        columns: Our column name to the file's, e.g. ``{chosen: good, rejected: bad}``.
        limit: Read only the first rows.
    """

    path: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    limit: int | None = None


@dataclass(frozen=True)
class DataConfig:
    """Pairs, prompts and demonstrations, and how they become tokens.

    Args:
        pairs: Preference pairs to train on.
        heldout: Pairs for held-out metrics; by default ``heldout_fraction`` of the prompts of ``pairs``.
        heldout_fraction: Share of prompts set aside when ``heldout`` is not given.
        prompts: Prompts for bootstrapping; by default the prompts of ``pairs``.
        demonstrations: Prompt and response rows for ``sft``; by default the chosen responses of ``pairs``.
        max_length: Most tokens of prompt and response together.
        max_prompt_length: Most tokens of a prompt. Default: three quarters of ``max_length``.
        overlong: What happens to a response beyond ``max_length``: ``cut`` keeps its start, ``drop`` drops the pair.
        as_chat: Make plain prompts and responses turns of a conversation, for a model with a chat template.
        system: A system message put before every conversation that has none.
    """

    pairs: SourceConfig | None = None
    heldout: SourceConfig | None = None
    heldout_fraction: float = 0.05
    prompts: SourceConfig | None = None
    demonstrations: SourceConfig | None = None
    max_length: int = 1024
    max_prompt_length: int | None = None
    overlong: Literal["cut", "drop"] = "cut"
    as_chat: bool = False
    system: str | None = None

    def __post_init__(self) -> None:
        _require(0.0 <= self.heldout_fraction < 1.0, "heldout_fraction", "in [0, 1)", self.heldout_fraction)
        _require(self.max_length >= 2, "max_length", "at least 2", self.max_length)
        limit = self.max_prompt_length
        _require(
            limit is None or 0 < limit < self.max_length,
            "max_prompt_length",
            f"between 1 and max_length - 1 = {self.max_length - 1}",
            limit,
        )

    @property
    def prompt_limit(self) -> int:
        """Most tokens of a prompt."""
        return self.max_prompt_length or max(1, self.max_length * 3 // 4)


@dataclass(frozen=True)
class LoraConfig:
    """A fresh LoRA adapter. ``target_modules``: names as in PEFT, or ``all-linear``."""

    r: int = 16
    alpha: int = 32
    target_modules: str | list[str] = "all-linear"

    def __post_init__(self) -> None:
        _require(self.r > 0, "r", "greater than 0", self.r)
        _positive(self.alpha, "alpha")


@dataclass(frozen=True)
class PolicyConfig:
    """The model that is trained.

    Args:
        model: A folder or a model's name on the hub.
        revision: Commit or tag on the hub.
        tokenizer: Folder or name of the tokenizer; by default the model's.
        chat_template: A Jinja chat template, or the path of a file with one, in place of the tokenizer's.
        adapter: A trained PEFT adapter to go on from; the reference is then a frozen copy of it.
        lora: Train a fresh LoRA adapter; the reference is then the model without it.
        dtype: Data type of the weights in memory.
        attention: Attention implementation of transformers.
        trust_remote_code: Run code that comes with the model.
        start: Each round starts from the ``previous`` round's policy or from the ``initial`` one.
    """

    model: str | None = None
    revision: str | None = None
    tokenizer: str | None = None
    chat_template: str | None = None
    adapter: str | None = None
    lora: LoraConfig | None = None
    dtype: Precision = "float32"
    attention: str | None = None
    trust_remote_code: bool = False
    start: Literal["previous", "initial"] = "previous"

    def __post_init__(self) -> None:
        if self.adapter and self.lora:
            raise ConfigError(
                "adapter and lora exclude each other: a run either goes on with a trained adapter or begins a fresh one"
            )


@dataclass(frozen=True)
class ReferenceConfig:
    """The policy that implicit rewards are measured against.

    Args:
        model: A folder or hub name; by default the weights that the policy starts from (after ``sft``).
        revision: Commit or tag on the hub.
        adapter: An adapter on ``model``.
        anchor: ``initial`` keeps one reference for all rounds; ``previous`` takes the previous round's policy.
    """

    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    anchor: Literal["initial", "previous"] = "initial"

    def __post_init__(self) -> None:
        if self.adapter and not self.model:
            raise ConfigError("adapter needs model, the one that it was trained on")


@dataclass(frozen=True)
class ObjectiveConfig:
    """The loss of the rounds.

    Args:
        name: ``dpo``, ``ipo``, ``slic``, ``simpo`` or ``sft``.
        beta: Strength of the implicit reward. Default: 0.1, and 2.0 for ``simpo``.
        gamma: Target reward margin of ``simpo`` (default 1.0); no other objective has one.
    """

    name: ObjectiveName = "dpo"
    beta: float | None = None
    gamma: float | None = None

    def __post_init__(self) -> None:
        if self.beta is not None:
            _positive(self.beta, "beta")
            if self.name == "sft":
                raise ConfigError("beta: sft has no implicit reward, so no beta; leave it out")
        if self.gamma is not None and self.name != "simpo":
            raise ConfigError(f"gamma is the target margin of simpo; {self.name} has none; leave it out")

    @property
    def resolved_beta(self) -> float:
        """``beta``, or the objective's default."""
        return DEFAULT_BETA[self.name] if self.beta is None else self.beta

    @property
    def resolved_gamma(self) -> float:
        """``gamma``, or the objective's default."""
        return DEFAULT_SIMPO_GAMMA if self.gamma is None else self.gamma


@dataclass(frozen=True)
class TrainingConfig:
    """One training: optimizer, schedule, batches, checkpoints.

    Args:
        learning_rate: Peak learning rate.
        schedule: Learning-rate schedule by transformers' name.
        warmup: Share of the steps over which the rate rises.
        epochs: Times that each pair is seen. Give this or ``max_steps``; by default 1.
        max_steps: Number of optimizer steps instead of ``epochs``.
        batch_size: Pairs per optimizer step, over all processes.
        tokens_per_pack: Most tokens (padding counted) in one forward pass; a step is split into as many
            passes as that takes. Changes memory, never the loss.
        precision: ``bfloat16`` and ``float16`` train in mixed precision.
        weight_decay: AdamW's decay.
        max_grad_norm: Gradient clipping; 0 for none.
        optimizer: Optimizer by transformers' name.
        gradient_checkpointing: Recompute activations to save memory.
        save_steps: Steps between checkpoints; a killed run goes on from the last one.
        log_steps: Steps between lines of metrics.
        eval_steps: Steps between held-out evaluations; by default only before and after training.
        report_to: Trackers by transformers' names, e.g. ``[tensorboard, wandb]``.
        extra: Any other field of ``transformers.TrainingArguments`` (``fsdp``, ``torch_compile`` …).
    """

    learning_rate: float = 1e-6
    schedule: str = "linear"
    warmup: float = 0.1
    epochs: float | None = None
    max_steps: int | None = None
    batch_size: int = 32
    tokens_per_pack: int = 8192
    precision: Precision = "float32"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer: str = "adamw_torch"
    gradient_checkpointing: bool = False
    save_steps: int = 100
    log_steps: int = 10
    eval_steps: int | None = None
    report_to: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("learning_rate", "batch_size", "tokens_per_pack", "save_steps", "log_steps"):
            _positive(getattr(self, key), key)
        for key in ("epochs", "max_steps", "eval_steps"):
            if getattr(self, key) is not None:
                _positive(getattr(self, key), key)
        if self.epochs is not None and self.max_steps is not None:
            raise ConfigError("epochs and max_steps exclude each other: give one of them")
        _require(0.0 <= self.warmup < 1.0, "warmup", "in [0, 1)", self.warmup)

    @property
    def resolved_epochs(self) -> float:
        """``epochs``, one where neither ``epochs`` nor ``max_steps`` is given."""
        return 1.0 if self.epochs is None else self.epochs


@dataclass(frozen=True)
class ScoringConfig:
    """Log-probabilities of the data under the policies, and the reward ensemble.

    Args:
        dtype: Precision of scoring. In ``bfloat16`` rounding can reorder close margins.
        tokens_per_pack: Most tokens (padding counted) in one forward pass.
        cache: File of the log-probability cache; by default in the run. Give one file to several runs to share.
        gamma: Weight of the policy before the last in the ensembled margin, (1 - gamma) h1 + gamma h2.
    """

    dtype: Precision = "float32"
    tokens_per_pack: int = 16384
    cache: str | None = None
    gamma: float = 0.3

    def __post_init__(self) -> None:
        _positive(self.tokens_per_pack, "tokens_per_pack")
        _require(0.0 <= self.gamma <= 1.0, "gamma", "in [0, 1]", self.gamma)


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
        _fraction(self.fraction, "fraction")
        if (self.rule == "threshold") != (self.threshold is not None):
            raise ConfigError(
                "threshold goes with rule: threshold, and only with it "
                f"(rule is {self.rule!r}, threshold is {self.threshold!r})"
            )


@dataclass(frozen=True)
class BootstrapConfig:
    """Pairs that the policy makes itself.

    Args:
        samples: Responses per prompt (R).
        temperature: Sampling temperature.
        top_p: Nucleus of the sampling distribution.
        max_new_tokens: Longest response; a longer one is unfinished and makes no pair.
        prompts: Number of prompts each round, drawn anew; by default all.
        batch_size: Prompts sampled together.
        selection: Which of the generated pairs are kept.
        shares: Share of generated pairs in the training data of rounds 2, 3, ...; the last one holds on.
    """

    samples: int = 4
    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int = 256
    prompts: int | None = None
    batch_size: int = 16
    selection: SelectionConfig = field(default_factory=lambda: SelectionConfig(fraction=0.6))
    shares: list[float] = field(default_factory=lambda: [0.3, 0.5, 0.6, 0.7])

    def __post_init__(self) -> None:
        _require(self.samples >= 2, "samples", "at least 2 (a best and a worst)", self.samples)
        _positive(self.temperature, "temperature")
        _fraction(self.top_p, "top_p")
        _positive(self.max_new_tokens, "max_new_tokens")
        _positive(self.batch_size, "batch_size")
        _require(self.prompts is None or self.prompts > 0, "prompts", "greater than 0", self.prompts)
        _require(
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
        temperature: Sampling temperature.
        top_p: Nucleus of the sampling distribution.
        max_new_tokens: Longest answer; by default that of bootstrapping.
        batch_size: Prompts sampled together.
        scorer: ``module:function`` that takes lists of prompts and of responses and returns scores; win rates come
            from it. The built-in world brings its own.
        baseline: Also train the objective on all pairs with as many steps as all rounds, to compare with.
    """

    prompts: int = 200
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    batch_size: int = 32
    scorer: str | None = None
    baseline: bool = False

    def __post_init__(self) -> None:
        _require(self.prompts >= 0, "prompts", "at least 0", self.prompts)
        _positive(self.temperature, "temperature")
        _fraction(self.top_p, "top_p")
        _positive(self.batch_size, "batch_size")
        _require(
            self.scorer is None or self.scorer.count(":") == 1,
            "scorer",
            "of the form module:function",
            self.scorer,
        )


@dataclass(frozen=True)
class StopConfig:
    """When the rounds end before the last.

    Args:
        metric: ``margin_accuracy`` on held-out pairs, ``win_rate`` against the previous round (needs a scorer),
            or ``never``.
        min_gain: Gain over the best round so far below which a round counts as no gain; for ``win_rate``, the
            distance above one half.
        patience: Rounds without gain in a row that end the run.
    """

    metric: Literal["margin_accuracy", "win_rate", "never"] = "margin_accuracy"
    min_gain: float = 0.0
    patience: int = 1

    def __post_init__(self) -> None:
        _require(self.patience >= 1, "patience", "at least 1", self.patience)


@dataclass(frozen=True)
class WorldConfig:
    """The built-in world: a small language with a known gold reward, made on the spot.

    It supplies the model, tokenizer, pairs, prompts, demonstrations and scorer that the configuration leaves out.

    Args:
        pairs: Offline preference pairs.
        demonstrations: Supervised texts.
        prompts: Prompts for bootstrapping.
        heldout: Held-out pairs; their prompts are the evaluation's.
        noise: Probability that a label is flipped.
        gold_strength: How strongly the labeller follows the gold reward.
        length_strength: How strongly the labeller prefers the longer response: the spurious feature.
        seed: Seed of the world; the run's seed does not change it.
    """

    pairs: int = 4000
    demonstrations: int = 20000
    prompts: int = 1500
    heldout: int = 1000
    noise: float = 0.2
    gold_strength: float = 2.0
    length_strength: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("pairs", "demonstrations", "prompts", "heldout"):
            _positive(getattr(self, key), key)
        _require(0.0 <= self.noise <= 1.0, "noise", "in [0, 1]", self.noise)


@dataclass(frozen=True)
class RunConfig:
    """A run: one folder, one command, round after round.

    Args:
        out: The run's folder.
        seed: Seed of everything random in the run.
        rounds: Number of rounds; the first trains on all pairs, each later one reviews, samples and trains again.
        policy: The model that is trained.
        reference: The policy that implicit rewards are measured against.
        data: Pairs, prompts, demonstrations.
        sft: Train a supervised policy first, with these settings; it becomes the starting policy and the reference.
        objective: The loss of the rounds.
        training: Training of each round.
        scoring: Log-probabilities of the data and the reward ensemble.
        selection: Which offline pairs a round keeps.
        bootstrap: Pairs that the policy makes itself; null for none.
        evaluation: What is measured after each round.
        stop: When the rounds end before the last.
        world: The built-in world in place of files.
    """

    out: str
    seed: int = 0
    rounds: int = 3
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    data: DataConfig = field(default_factory=DataConfig)
    sft: TrainingConfig | None = None
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    bootstrap: BootstrapConfig | None = field(default_factory=BootstrapConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    world: WorldConfig | None = None

    def __post_init__(self) -> None:
        _require(bool(self.out), "out", "the path of the run's folder", self.out)
        _require(self.rounds >= 1, "rounds", "at least 1", self.rounds)
        if self.world is None:
            if self.policy.model is None:
                raise ConfigError("policy.model is missing: a folder or a model's name on the hub (or set world)")
            if self.data.pairs is None:
                raise ConfigError("data.pairs is missing: a file or a data set's name on the hub (or set world)")
        if self.objective.name == "sft" and self.rounds > 1:
            raise ConfigError("objective.name: sft has no margin to review pairs by; set rounds: 1 or another name")
        if self.stop.metric == "win_rate" and self.evaluation.scorer is None and self.world is None:
            raise ConfigError("stop.metric: win_rate needs evaluation.scorer (module:function) to score responses")

"""Settings of a training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from seralign.checks import positive, require
from seralign.config.secrets import refuse_secrets
from seralign.errors import ConfigError

DataType = Literal["float32", "bfloat16", "float16"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Shard = Literal["none", "fsdp", "zero2", "zero3"]


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training: optimizer, schedule, batches, checkpoints.

    Args:
        learning_rate: Peak learning rate.
        schedule: Learning-rate schedule, by its name in transformers.
        warmup: Share of the steps over which the learning rate rises from 0, rounded down to whole steps.
        epochs: How often each pair is seen. Set this or ``max_steps``. Default: 1.
        max_steps: Number of optimizer steps, in place of ``epochs``.
        batch_size: Pairs per optimizer step, over all processes.
        tokens_per_pack: Maximum number of tokens in one forward pass. A step is split into as many passes as needed. A
            prompt counts once for all its responses. If the model cannot pack rows, padding counts instead. This
            changes the memory, never the loss.
        precision: ``bfloat16`` and ``float16`` train in mixed precision, with the policy's own weights. ``auto`` uses
            the faster of ``float32`` and ``bfloat16``, found by a probe of about a second when the run begins.
        weight_decay: Weight decay of AdamW.
        max_grad_norm: Maximum norm of the gradient; 0 for no clipping.
        average: Share of the last steps over which the weights of the policy are averaged; 0 uses the weights of the
            last step.
        optimizer: Optimizer, by its name in transformers.
        gradient_checkpointing: Recompute activations to save memory.
        shard: How the policy is divided over the processes of ``torchrun`` or ``accelerate launch``. ``none``: each has
            all of it. ``fsdp``: weights, gradients and the optimizer's state are divided (FSDP2); policies that score
            are divided, too. ``zero2`` and ``zero3``: DeepSpeed's ZeRO divides gradients and the optimizer's state, and
            ``zero3`` the weights of the policy in training, too.
        save_steps: Steps between checkpoints. A run that was killed resumes from the last checkpoint.
        log_steps: Steps between lines of metrics.
        eval_steps: Steps between held-out evaluations. Default: only before and after training.
        report_to: Trackers, by their names in transformers, e.g. ``[tensorboard, wandb]``. Their packages, and the
            login to wandb and comet_ml, are checked before the run begins.
        extra: Other fields of ``transformers.TrainingArguments`` (``adam_beta2`` …). Secrets are refused; set them in
            the environment (``HF_TOKEN``).
    """

    learning_rate: float = 1e-6
    schedule: str = "linear"
    warmup: float = 0.1
    epochs: float | None = None
    max_steps: int | None = None
    batch_size: int = 32
    tokens_per_pack: int = 4096
    precision: Precision = "auto"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    average: float = 0.0
    optimizer: str = "adamw_torch"
    gradient_checkpointing: bool = False
    shard: Shard = "none"
    save_steps: int = 100
    log_steps: int = 10
    eval_steps: int | None = None
    report_to: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("learning_rate", "batch_size", "tokens_per_pack", "save_steps", "log_steps"):
            positive(getattr(self, key), key)
        for key in ("epochs", "max_steps", "eval_steps"):
            if getattr(self, key) is not None:
                positive(getattr(self, key), key)
        if self.epochs is not None and self.max_steps is not None:
            raise ConfigError("epochs and max_steps exclude each other: set one of them")
        # A larger learning rate makes the weights infinite within a few steps.
        require(self.learning_rate <= 10.0, "learning_rate", "at most 10", self.learning_rate)
        for key in ("weight_decay", "max_grad_norm"):
            require(getattr(self, key) >= 0.0, key, "at least 0", getattr(self, key))
        require(self.weight_decay <= 100.0, "weight_decay", "at most 100", self.weight_decay)
        require(0.0 <= self.warmup < 1.0, "warmup", "in [0, 1)", self.warmup)
        require(0.0 <= self.average <= 1.0, "average", "in [0, 1]", self.average)
        refuse_secrets(self.extra, "extra")

    def resolved(self) -> TrainingConfig:
        """The same settings, with the default of ``epochs`` filled in if ``max_steps`` is not set."""
        return self if self.max_steps is not None else replace(self, epochs=self.resolved_epochs)

    @property
    def resolved_epochs(self) -> float:
        """``epochs``, or 1 if neither ``epochs`` nor ``max_steps`` is set."""
        return 1.0 if self.epochs is None else self.epochs

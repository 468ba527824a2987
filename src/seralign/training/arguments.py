"""Our settings in the words of ``transformers.TrainingArguments``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import Trainer, TrainingArguments

from seralign import distributed
from seralign.config import TrainingConfig
from seralign.errors import ConfigError, one_line
from seralign.training.plan import Plan

_FIELDS = {field.name for field in dataclasses.fields(TrainingArguments)}
# The name since transformers 5.2x, and the one before.
_CHECKPOINTING = "activation_checkpointing" if "activation_checkpointing" in _FIELDS else "gradient_checkpointing"

# Beside what we set ourselves: settings that would contradict the plan, or that our loss and evaluation never read.
_REFUSED = {
    "accelerator_config", "activation_checkpointing", "auto_find_batch_size", "average_tokens_across_devices",
    "batch_eval_metrics", "bf16_full_eval", "data_seed", "dataloader_drop_last", "ddp_backend",
    "eval_accumulation_steps", "fp16_full_eval", "gradient_checkpointing", "greater_is_better",
    "group_by_length", "hub_model_id", "ignore_data_skip", "label_names",
    "label_smoothing_factor", "length_column_name", "load_best_model_at_end", "logging_strategy",
    "metric_for_best_model", "per_device_eval_batch_size", "prediction_loss_only", "push_to_hub",
    "resume_from_checkpoint", "save_only_model", "warmup_ratio",
}  # fmt: skip
# Settings of the whole process or the whole model that the trainer makes when the reference is scored already.
_OTHER_NUMBERS = {
    "liger_kernel_config", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode", "use_liger_kernel",
}  # fmt: skip


def check_settings(config: TrainingConfig) -> None:
    """Have transformers judge the settings before any work; raises as :func:`training_arguments`."""
    training_arguments(config, Plan([], 1, 1, 1), Path("unused"), heldout=False, seed=0)


def training_arguments(
    config: TrainingConfig, plan: Plan, scratch: Path, *, heldout: bool, seed: int
) -> TrainingArguments:
    """``config`` and ``config.extra`` as ``TrainingArguments``, with checkpoints in ``scratch``.

    Raises:
        ConfigError: ``training.extra`` has a key that ``TrainingArguments`` lacks, that seralign decides, or that
            makes the policy compute other numbers than its reference; a value is refused by transformers; the
            precision needs another device.
    """
    device: Any = PartialState().device
    if config.precision == "float16" and device.type == "cpu":
        raise ConfigError("training.precision: float16 needs a GPU; on a CPU give bfloat16 or float32")
    settings: dict[str, Any] = {
        "output_dir": str(scratch),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": plan.accumulation,
        "num_train_epochs": 1,
        "max_steps": plan.steps,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "optim": config.optimizer,
        "bf16": config.precision == "bfloat16",
        "fp16": config.precision == "float16",
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": 2,
        "logging_steps": config.log_steps,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if config.eval_steps and heldout else "no",
        "eval_steps": config.eval_steps,
        "eval_on_start": heldout,
        "report_to": config.report_to or "none",
        "disable_tqdm": True,
        "use_cpu": device.type == "cpu",
        "ddp_timeout": int(distributed.PATIENCE.total_seconds()),
        "seed": seed,
    }
    if config.gradient_checkpointing:
        settings[_CHECKPOINTING] = True
    for key in sorted(config.extra):
        if key in settings or key in _REFUSED:
            raise ConfigError(f"training.extra.{key}: seralign decides this by its own settings and plan; leave it out")
        if key in _OTHER_NUMBERS:
            raise ConfigError(
                f"training.extra.{key}: it changes how the policy computes after the reference was scored without it, "
                "so that training would not begin at margin 0; leave it out"
            )
        if key not in _FIELDS:
            raise ConfigError(f"training.extra.{key}: transformers.TrainingArguments has no such setting")
    defaults: dict[str, Any] = {"dataloader_pin_memory": device.type == "cuda"}
    try:
        arguments = TrainingArguments(**(defaults | config.extra | settings))
        Trainer.get_optimizer_cls_and_kwargs(arguments)  # a missing optimizer is told before training, not in it
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"training: transformers refuses the settings: {one_line(error)}") from None
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs are for torchrun; DataParallel would split packs
    return arguments

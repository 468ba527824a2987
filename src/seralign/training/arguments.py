"""Translates the training settings to ``transformers.TrainingArguments``."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import Trainer, TrainingArguments, get_scheduler

from seralign import distributed
from seralign.config import TrainingConfig
from seralign.errors import ConfigError, one_line
from seralign.training.extra import FIELDS, check_extra
from seralign.training.plan import Plan
from seralign.training.shards import sharding_arguments
from seralign.training.trackers import check_trackers

# The name since transformers 5.2x, and the name before.
CHECKPOINTING = "activation_checkpointing" if "activation_checkpointing" in FIELDS else "gradient_checkpointing"
# Exceptions of transformers and torch for invalid values.
REFUSALS = (TypeError, ValueError, ImportError, AttributeError, KeyError, RuntimeError, OSError)


def check_settings(config: TrainingConfig, section: str) -> None:
    """Check the settings of a section with transformers before any work.

    Raises:
        ConfigError: see ``training_arguments``; or a tracker is unknown or not installed, or the schedule cannot be
            made with its ``lr_scheduler_kwargs``.
    """
    # The number of steps is not known yet; whether a schedule is valid does not depend on it.
    try:
        arguments = nominal_arguments(config, config.max_steps or 1000, section)
        _schedule(arguments, section)
    except ConfigError as error:
        raise _with_key(error, config, section) from None
    check_trackers(arguments.report_to or [], section)  # pyright: ignore


def check_rates(config: TrainingConfig, steps: int, section: str) -> None:
    """Refuse a training of ``steps`` optimizer steps that would change nothing.

    Raises:
        ConfigError: no step has a learning rate above 0.
    """
    optimizer, scheduler = _schedule(nominal_arguments(config, steps, section), section)
    for _ in range(steps):
        if optimizer.param_groups[0]["lr"] > 0:
            return
        optimizer.step()
        scheduler.step()
    count = "the only step has" if steps == 1 else f"all {steps} steps have"
    raise ConfigError(
        f"{section}.schedule: {count} a learning rate of 0 ({config.schedule}, warmup {config.warmup}), so the "
        f"training would change nothing; set more {section}.epochs or {section}.max_steps, a lower {section}.warmup "
        f"or another {section}.schedule"
    )


def trainer_settings(
    config: TrainingConfig, steps: int, accumulation: int, scratch: Path, *, section: str, heldout: bool, seed: int
) -> dict[str, Any]:
    """The fields of ``TrainingArguments`` that the settings of a section decide, for passes of one pack.

    Raises:
        ConfigError: the precision needs another device.
    """
    device: Any = PartialState().device
    if config.precision == "float16" and device.type == "cpu":
        raise ConfigError(f"{section}.precision: float16 needs a GPU; on a CPU, set bfloat16 or float32")
    settings: dict[str, Any] = {
        "output_dir": str(scratch),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 1,
        "max_steps": steps,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": _warmup_steps(config, steps),
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
        settings[CHECKPOINTING] = True
    return settings


def training_arguments(
    config: TrainingConfig, plan: Plan, scratch: Path, *, section: str, heldout: bool, seed: int
) -> TrainingArguments:
    """Make ``TrainingArguments`` from ``config`` and ``config.extra``, with checkpoints in ``scratch``.

    ``section`` is the section of ``config``, ``training`` or ``sft``; errors name it.

    Raises:
        ConfigError: ``extra`` has a key that ``TrainingArguments`` lacks, that seralign decides, or that
            makes the policy compute other numbers than its reference; a value is refused by transformers; the
            precision needs another device.
    """
    settings = trainer_settings(
        config, plan.steps, plan.accumulation, scratch, section=section, heldout=heldout, seed=seed
    )
    settings |= sharding_arguments(config)
    check_extra(config.extra, settings, section)
    device: Any = PartialState().device
    defaults: dict[str, Any] = {"dataloader_pin_memory": device.type == "cuda"}
    try:
        arguments = TrainingArguments(**(defaults | config.extra | settings))
        _optimizer(arguments)  # report an invalid optimizer before training
    except REFUSALS as error:
        raise ConfigError(f"{section}: transformers refuses the settings: {one_line(error)}") from None
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs are for torchrun; DataParallel would split packs
    return arguments


def _optimizer(arguments: TrainingArguments) -> None:
    """Make the optimizer for one parameter, because torch checks betas and rates only then."""
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    if not {"params", "model", "optimizer_dict"} & options.keys():  # those are made of the model itself
        kind([torch.zeros(4, 4, device=PartialState().device, requires_grad=True)], **options)


def _with_key(error: ConfigError, config: TrainingConfig, section: str) -> ConfigError:
    """The error with the key that causes it: the first one without which transformers accepts the settings."""
    start = f"{section}: transformers refuses the settings: "
    if not str(error).startswith(start):
        return error
    default, extra = TrainingConfig(), config.extra
    without = {
        f"extra.{name}": replace(config, extra={key: value for key, value in extra.items() if key != name})
        for name in sorted(extra)
    } | {name: replace(config, **{name: getattr(default, name)}) for name in ("optimizer", "schedule")}
    for name, other in without.items():
        try:
            nominal_arguments(other, 1000, section)
        except ConfigError:
            continue
        return ConfigError(f"{section}.{name}: transformers refuses it: {str(error).removeprefix(start)}")
    return error


def nominal_arguments(config: TrainingConfig, steps: int, section: str) -> TrainingArguments:
    """The arguments of the settings, without a particular training."""
    plan = Plan([], steps, 1, 1)
    # DeepSpeed's settings would reach every model that is loaded while these exist.
    return training_arguments(
        replace(config, shard="none"), plan, Path("unused"), section=section, heldout=False, seed=0
    )


def _warmup_steps(config: TrainingConfig, steps: int) -> int:
    # transformers rounds up, which would make a short training all warm-up; the first step of a warm-up has rate 0.
    return min(math.floor(config.warmup * steps), steps - 1)


def _schedule(arguments: TrainingArguments, section: str) -> tuple[torch.optim.Optimizer, Any]:
    """A dummy optimizer with the learning-rate schedule of the training."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=arguments.learning_rate)
    steps = int(arguments.max_steps)
    try:
        scheduler = get_scheduler(
            arguments.lr_scheduler_type,
            optimizer,
            arguments.get_warmup_steps(steps),
            steps,
            arguments.lr_scheduler_kwargs,  # pyright: ignore
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{section}.schedule: transformers refuses it: {one_line(error)}") from None
    return optimizer, scheduler

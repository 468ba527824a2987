"""``training.extra``: which further fields of ``transformers.TrainingArguments`` are taken, and their types."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Container
from typing import Any

from transformers import TrainingArguments

from seralign.config.values import shown
from seralign.errors import ConfigError

FIELDS = {field.name for field in dataclasses.fields(TrainingArguments)}
# Beside what we set ourselves: settings that would contradict the plan, or that our loss and evaluation never read.
REFUSED = {
    "accelerator_config", "activation_checkpointing", "auto_find_batch_size", "average_tokens_across_devices",
    "batch_eval_metrics", "bf16_full_eval", "data_seed", "dataloader_drop_last", "ddp_backend",
    "eval_accumulation_steps", "fp16_full_eval", "gradient_checkpointing", "greater_is_better",
    "group_by_length", "hub_model_id", "ignore_data_skip", "label_names",
    "label_smoothing_factor", "length_column_name", "load_best_model_at_end", "logging_strategy",
    "metric_for_best_model", "per_device_eval_batch_size", "prediction_loss_only", "push_to_hub",
    "resume_from_checkpoint", "save_only_model", "warmup_ratio",
}  # fmt: skip
# Settings of the whole process or the whole model that the trainer makes when the reference is scored already.
OTHER_NUMBERS = {
    "liger_kernel_config", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode", "use_liger_kernel",
}  # fmt: skip
# What transformers takes beside what the field's annotation says.
_ALSO: dict[str, list[type]] = {"fsdp": [bool, list]}
_WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null", list: "a list",
    dict: "keys and values",
}  # fmt: skip


def check_extra(extra: dict[str, Any], ours: Container[str], section: str) -> None:
    """Refuse further settings that cannot be honoured; transformers itself checks hardly any type.

    Args:
        extra: Names to values.
        ours: Names that seralign sets.
        section: ``training`` or ``sft``: errors name it.

    Raises:
        ConfigError: a name that ``TrainingArguments`` lacks, that seralign decides, or that makes the policy compute
            other numbers than its reference; or a value of another type than the setting's.
    """
    hints = typing.get_type_hints(TrainingArguments)
    for name in sorted(extra):
        key = f"{section}.extra.{name}"
        if name in ours or name in REFUSED:
            raise ConfigError(f"{key}: seralign decides this by its own settings and plan; leave it out")
        if name in OTHER_NUMBERS:
            raise ConfigError(
                f"{key}: it changes how the policy computes after the reference was scored without it, so that "
                "training would not begin at margin 0; leave it out"
            )
        if name not in FIELDS:
            raise ConfigError(f"{key}: transformers.TrainingArguments has no such setting")
        kinds = _plain_kinds(hints[name]) + _ALSO.get(name, [])
        if kinds and not any(_is(extra[name], kind) for kind in kinds):
            rule = " or ".join(_WORDS[kind] for kind in kinds)
            raise ConfigError(f"{key} must be {rule}, got {shown(extra[name])}")


def _plain_kinds(hint: Any) -> list[type]:
    """The kinds of plain values that a field takes; none where it takes what no configuration can write."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    found: list[type] = []
    for part in parts:
        kind = typing.get_origin(part) or part
        kind = bool if kind is typing.Literal else kind
        if kind in _WORDS and kind not in found:
            found.append(kind)
    return found


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)

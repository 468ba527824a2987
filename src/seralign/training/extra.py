"""``training.extra``: which other fields of ``transformers.TrainingArguments`` are accepted, and their types."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Container
from typing import Any, get_args

from transformers import TrainingArguments

from seralign.config.training import Shard
from seralign.config.values import shown
from seralign.errors import ConfigError

FIELDS = {field.name for field in dataclasses.fields(TrainingArguments)}
# Settings that would contradict the plan, or that the loss and the evaluation never read.
REFUSED = {
    "accelerator_config", "activation_checkpointing", "auto_find_batch_size", "average_tokens_across_devices",
    "batch_eval_metrics", "bf16_full_eval", "data_seed", "dataloader_drop_last", "ddp_backend",
    "eval_accumulation_steps", "fp16_full_eval", "gradient_checkpointing", "greater_is_better",
    "group_by_length", "hub_model_id", "ignore_data_skip", "label_names",
    "label_smoothing_factor", "length_column_name", "load_best_model_at_end", "logging_strategy",
    "metric_for_best_model", "per_device_eval_batch_size", "prediction_loss_only", "push_to_hub",
    "resume_from_checkpoint", "save_only_model", "warmup_ratio",
}  # fmt: skip
# Settings of the process or the model that would take effect only after the reference has been scored.
OTHER_NUMBERS = {
    "liger_kernel_config", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode", "use_liger_kernel",
}  # fmt: skip
# Settings of which ``shard`` makes one.
SHARDING = {"deepspeed", "fsdp", "fsdp_config", "parallelism_config"}
_WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null", list: "a list",
    dict: "keys and values",
}  # fmt: skip


def check_extra(extra: dict[str, Any], ours: Container[str], section: str) -> None:
    """Refuse settings that are not supported. transformers itself checks hardly any types.

    Args:
        extra: Mapping from names to values.
        ours: Names that seralign sets.
        section: ``training`` or ``sft``; errors name it.

    Raises:
        ConfigError: ``TrainingArguments`` does not have the name, seralign sets it itself, or it would make the policy
            compute different numbers from its reference; or the value has the wrong type.
    """
    hints = typing.get_type_hints(TrainingArguments)
    for name in sorted(extra):
        key = f"{section}.extra.{name}"
        if name in SHARDING:
            ways = ", ".join(get_args(Shard))
            raise ConfigError(f"{key}: {section}.shard ({ways}) says how the model is divided; remove this key")
        if name in ours or name in REFUSED:
            raise ConfigError(f"{key}: seralign sets this itself; remove it")
        if name in OTHER_NUMBERS:
            raise ConfigError(
                f"{key}: it changes how the policy is computed, after the reference was scored without it, so training "
                "would not begin at margin 0; remove it"
            )
        if name not in FIELDS:
            raise ConfigError(f"{key}: transformers.TrainingArguments has no such setting")
        check_kind(hints[name], extra[name], key)


def check_kind(hint: Any, value: Any, key: str) -> None:
    """Check a value against the annotation of a field, as far as a file can express it.

    Args:
        hint: The annotation.
        value: The value.
        key: The configuration key.

    Raises:
        ConfigError: it has another type.
    """
    kinds = _plain_kinds(hint)
    if kinds and not any(_is(value, kind) for kind in kinds):
        raise ConfigError(f"{key} must be {' or '.join(_WORDS[kind] for kind in kinds)}, got {shown(value)}")


def _plain_kinds(hint: Any) -> list[type]:
    """The types of plain values that a field accepts; empty if it only accepts values that a file cannot express."""
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

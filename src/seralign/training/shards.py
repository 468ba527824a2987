"""``training.shard``: whether it can be honoured, and what it sets in transformers' trainer."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import DistributedType, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import nn
from transformers import Trainer
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from seralign import distributed
from seralign.config import TrainingConfig
from seralign.errors import ConfigError
from seralign.policy.sharding import is_divided
from seralign.progress import say
from seralign.runs.layout import CHECKPOINT_MARKER

# By these, ``accelerate launch`` and accelerate itself say that all trainings of a process are divided.
_BY_ACCELERATE = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
# Ends the name of a folder of checkpoints, after their number.
_PROCESSES = "-processes"


def check_shard(config: TrainingConfig, section: str) -> None:
    """Refuse to divide a model that cannot be divided here.

    Raises:
        ConfigError: there is only one process; a launcher divides models by its own settings; or another setting does
            not allow it.
    """
    for name in _BY_ACCELERATE:
        if os.environ.get(name, "").lower() in ("1", "true", "yes"):
            raise ConfigError(
                f"{section}.shard: the settings of accelerate launch divide the model, too ({name}); set "
                f"use_fsdp and use_deepspeed to false there, and let {section}.shard decide"
            )
    if config.shard == "none":
        return
    if distributed.world_size() == 1:
        raise ConfigError(
            f"{section}.shard: {config.shard} divides the model over several processes, and this is the only one; "
            "start them with a launcher (torchrun --nproc_per_node N -m seralign.cli.main train ...), or set none"
        )
    if config.precision == "float16":
        raise ConfigError(f"{section}.precision: float16 cannot be combined with {section}.shard; set bfloat16")
    if config.shard != "fsdp":
        _check_deepspeed(config, section)


def sharding_arguments(config: TrainingConfig) -> dict[str, Any]:
    """Arguments of ``transformers.TrainingArguments``."""
    if config.shard == "none" or distributed.world_size() == 1:
        return {}
    if config.shard != "fsdp":
        # DeepSpeed's own bfloat16 would save the policy in bfloat16, which rounds most updates away.
        return {"deepspeed": deepspeed_settings(config), "bf16": False}
    # The model is divided before (``seralign.policy.sharding``), so accelerate has nothing to wrap.
    fsdp = {"version": 2, "auto_wrap_policy": "NO_WRAP", "state_dict_type": "FULL_STATE_DICT"}
    # Without it, gradients are kept whole until the last pass of a step.
    each = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    return {"fsdp": True, "fsdp_config": fsdp, "accelerator_config": each}


def deepspeed_settings(config: TrainingConfig) -> dict[str, Any]:
    """The configuration of DeepSpeed; the trainer fills in what is ``auto``."""
    zero: dict[str, Any] = {"stage": 2}
    if config.shard == "zero3":
        zero = {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}  # in whatever data type they have
    autos = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    settings = dict.fromkeys(autos, "auto") | {"zero_optimization": zero, "zero_allow_untested_optimizer": True}
    if config.precision == "bfloat16":
        settings["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return settings


def _check_deepspeed(config: TrainingConfig, section: str) -> None:
    if importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            f"{section}.shard: {config.shard} needs DeepSpeed; install it (pip install 'seralign[deepspeed]'), or set "
            "fsdp"
        )
    if config.average:
        raise ConfigError(
            f"{section}.average: it cannot be combined with {section}.shard: {config.shard}; set 0, or fsdp"
        )


def divided_on_processors(trainer: Trainer) -> None:
    """Let accelerate treat a divided model on processors as it does on GPUs.

    It knows FSDP on GPUs only: without them it drops the settings, and wraps the model in DistributedDataParallel.
    """
    state: Any = trainer.accelerator.state
    if trainer.args.fsdp and state.distributed_type is DistributedType.MULTI_CPU:
        settings: Any = trainer.args.fsdp_plugin_args
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**settings)
        # Each copies it from the other.
        state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        trainer.is_fsdp_enabled = True


def check_divided(model: nn.Module, config: TrainingConfig) -> None:
    """Check before the first step that a model is divided exactly if the settings say so."""
    wanted = config.shard == "fsdp" and distributed.world_size() > 1
    assert is_divided(model) == wanted, f"training.shard: {config.shard}, but divided: {is_divided(model)}"


def checkpoint_folder(scratch: Path, config: TrainingConfig) -> Path:
    """The folder of the checkpoints of a training.

    Those of DeepSpeed hold the parts of each process, and are of use to as many processes only. So each number of
    processes has a folder of its own.
    """
    if config.shard in ("zero2", "zero3") and distributed.world_size() > 1:
        return scratch / f"{distributed.world_size()}{_PROCESSES}"
    return scratch


def tell_others(scratch: Path, config: TrainingConfig, section: str) -> None:
    """Say that a training begins anew although another number of processes has saved checkpoints of it."""
    own = checkpoint_folder(scratch, config)
    counts = {path.parents[1].name for path in scratch.glob(f"*{_PROCESSES}/checkpoint-*/{CHECKPOINT_MARKER}")}
    others = sorted(counts - {own.name}, key=lambda name: (len(name), name))
    if own != scratch and others:
        saved = " and ".join(name.removesuffix(_PROCESSES) for name in others)
        say(
            f"warning: {section}.shard: checkpoints of this training were saved by {saved} processes, and DeepSpeed "
            f"resumes only with as many; with {distributed.world_size()} it begins again from its first step. Stop "
            f"this run and start {saved} processes to resume from them"
        )


@contextmanager
def as_before() -> Iterator[None]:
    """Forget after the block what accelerate puts into the environment, or later trainings would be divided, too."""
    before = {name: os.environ.get(name) for name in _BY_ACCELERATE}
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

"""Translates the sections ``rlhf`` and ``training`` to the settings of a method of TRL."""

from __future__ import annotations

import dataclasses
import math
import typing
from pathlib import Path
from typing import Any

from seralign.config import RlhfConfig, TrainingConfig
from seralign.config.rlhf import GROUPED, Method
from seralign.errors import ConfigError, one_line
from seralign.rlhf.versions import method_classes
from seralign.training.arguments import CHECKPOINTING, REFUSALS, trainer_settings
from seralign.training.extra import FIELDS, check_extra, check_kind

# What seralign decides by other keys, or does itself.
_OURS = {
    "cast_lm_head_to_fp32", "dataset_num_proc", "exp_name", "generation_batch_size", "judge", "kl_coef",
    "log_completions_hub_repo", "model_adapter_name", "model_init_kwargs", "num_generations", "num_generations_eval",
    "num_sample_generations", "ref_adapter_name", "reward_model_path", "reward_weights", "sft_model_path",
    "total_episodes", "trust_remote_code",
}  # fmt: skip
# The beginning of an error of TRL's own.
REFUSED = "rlhf: TRL refuses the settings: "
# The names of the KL coefficient, and of the maximum number of new tokens.
_BETA: dict[Method, str] = {"ppo": "kl_coef"}
_LENGTH: dict[Method, str] = {
    "grpo": "max_completion_length",
    "rloo": "max_completion_length",
    "ppo": "response_length",
}


@dataclasses.dataclass(frozen=True)
class Batch:
    """How a step is divided.

    Args:
        steps: Optimizer steps.
        prompts: Prompts of a pass.
        accumulation: Passes of a step.
    """

    steps: int
    prompts: int
    accumulation: int


def plan_batch(rlhf: RlhfConfig, training: TrainingConfig, prompts: int) -> Batch:
    """The steps of a training on so many prompts.

    Raises:
        ConfigError: there are fewer prompts than a step has or than are sampled together, or ``epochs`` is less than a
            step.
    """
    size = training.batch_size
    if prompts < size:
        raise ConfigError(
            f"training.batch_size: a step has {size} different prompts, and the data have {prompts}; set at most that, "
            "or give more prompts"
        )
    steps = training.max_steps or math.floor(training.resolved_epochs * (prompts // size))
    if not steps:
        raise ConfigError(f"training.epochs: {training.epochs} of {prompts} prompts is less than a step of {size}")
    own = rlhf.prompts_per_pass or size
    together = own * (rlhf.extra.get("steps_per_generation") or 0)
    if together > prompts:
        raise ConfigError(
            f"rlhf.extra.steps_per_generation: TRL samples responses to {together} different prompts together, and the "
            f"data have {prompts}; lower it, or give more prompts"
        )
    return Batch(steps, own, size // own)


def method_arguments(
    rlhf: RlhfConfig, training: TrainingConfig, batch: Batch, scratch: Path, *, seed: int, longest_prompt: int
) -> Any:
    """The settings of a method, an instance of TRL's class, with checkpoints in ``scratch``.

    Raises:
        ConfigError: ``rlhf.extra`` has a key that the class lacks or seralign decides; a value is refused.
    """
    kind = method_classes(rlhf.method).settings
    settings = trainer_settings(
        training, batch.steps, batch.accumulation, scratch, section="training", heldout=False, seed=seed
    )
    settings |= _own(rlhf, batch, longest_prompt, training)
    # Samplers of their own, or the shuffling one of the trainer.
    settings.pop("train_sampling_strategy")
    check_extra(training.extra, settings, "training")
    _check_own_extra(rlhf, kind, settings)
    defaults = {"dataloader_pin_memory": False, "disable_dropout": True}
    known = {field.name for field in dataclasses.fields(kind)}
    given = {key: value for key, value in (defaults | training.extra | rlhf.extra | settings).items() if key in known}
    try:
        arguments = kind(**given)
    except REFUSALS as error:
        raise ConfigError(f"{REFUSED}{one_line(error)}") from None
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _own(rlhf: RlhfConfig, batch: Batch, longest_prompt: int, training: TrainingConfig) -> dict[str, Any]:
    """The fields that the section ``rlhf`` decides."""
    length = _LENGTH.get(rlhf.method, "max_new_tokens")
    own: dict[str, Any] = {
        _BETA.get(rlhf.method, "beta"): rlhf.kl_coefficient,
        length: rlhf.limit,
        "temperature": rlhf.temperature,
        "per_device_train_batch_size": batch.prompts,
        CHECKPOINTING: training.gradient_checkpointing,
    }
    if rlhf.method in GROUPED:
        own |= {
            "top_p": rlhf.top_p,
            "num_generations": rlhf.group_size,
            "per_device_train_batch_size": batch.prompts * rlhf.group_size,
        }
    elif rlhf.method == "ppo":
        # It steps once a batch, and neither resumes nor evaluates.
        own |= {
            "total_episodes": batch.steps * batch.prompts * batch.accumulation,
            "local_rollout_forward_batch_size": batch.prompts,
            "num_sample_generations": 0,
            "stop_token": "eos",
            "save_strategy": "no",
        }
    else:
        # Longer sequences would be cut at the left, which changes the prompts.
        own |= {"top_p": rlhf.top_p, "max_length": longest_prompt + rlhf.limit}
        # Or the last step of an epoch would have fewer prompts.
        own |= {"dataloader_drop_last": True}
    return own


def _check_own_extra(rlhf: RlhfConfig, kind: type, settings: dict[str, Any]) -> None:
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    for name, value in sorted(rlhf.extra.items()):
        key = f"rlhf.extra.{name}"
        if name in FIELDS and name in names and name not in settings:
            raise ConfigError(f"{key}: it is a setting of transformers.TrainingArguments; set training.extra.{name}")
        if name in settings or name in _OURS:
            raise ConfigError(f"{key}: seralign sets this itself; remove it")
        if name not in names:
            raise ConfigError(f"{key}: {kind.__name__} of TRL has no such setting")
        check_kind(hints[name], value, key)

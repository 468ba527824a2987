"""Runs one training by a method of TRL, from a starting policy to a saved policy. It resumes from checkpoints."""

from __future__ import annotations

import copy
import json
import math
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from seralign.config import RlhfConfig, TrainingConfig
from seralign.config.rlhf import SINGLE
from seralign.errors import ConfigError
from seralign.policy.forward import inner_model
from seralign.policy.quiet import quiet_transformers
from seralign.progress import bar, say
from seralign.rlhf.arguments import Batch, method_arguments
from seralign.rlhf.reward import RewardFunction
from seralign.rlhf.scoring_module import scored_by_functions
from seralign.rlhf.trainers import Given, make_trainer
from seralign.runs.layout import LOSS, METRICS, POLICY, RLHF_KL, RLHF_LENGTH, RLHF_REWARD, SCRATCH
from seralign.termination import Terminated, deferred
from seralign.training.checkpoints import CheckpointMarker, last_checkpoint, steps_of
from seralign.training.reopening import OpensAgain
from seralign.training.step_bar import StepBar
from seralign.training.terminating import stop_on
from seralign.training.train import tensorboard_in

_SHOWN = {RLHF_REWARD: "reward", RLHF_KL: "KL", RLHF_LENGTH: "tokens"}
# The copy of a trained adapter that TRL keeps as the reference.
_REFERENCE_ADAPTER = "ref"


@dataclass(frozen=True)
class TrainedByReward:
    """Figures of a training: the first and the last line of metrics."""

    steps: int
    first: dict[str, float | None]
    last: dict[str, float | None]


def train_by_reward(
    given: Given,
    rlhf: RlhfConfig,
    training: TrainingConfig,
    batch: Batch,
    folder: Path,
    *,
    seed: int,
    label: str,
    log_folder: Path,
) -> TrainedByReward:
    """Train a policy in place and save it to ``folder/policy``, and the metrics to ``folder/metrics.jsonl``.

    Checkpoints are in ``folder/scratch``. If the function is called again after it was killed, with the same initial
    model, it resumes from the last complete checkpoint.

    Args:
        given: Policy, reference, prompts and reward.
        rlhf: The method.
        training: Optimizer, schedule, checkpoints.
        batch: How a step is divided.
        folder: The folder of the stage.
        seed: Seed of the trainer.
        label: Text before the progress bar.
        log_folder: Folder for TensorBoard events.

    Raises:
        ConfigError: TRL refuses a setting, the reward fails, or it is the same for all responses.
        StoreError: a file of the last checkpoint cannot be read.
    """
    scratch, inner = folder / SCRATCH, inner_model(given.model)
    longest = max(len(ids) for ids in given.prompts.values())
    arguments = method_arguments(rlhf, training, batch, scratch, seed=seed, longest_prompt=longest)
    published = copy.deepcopy(inner.generation_config)
    settings = {name: getattr(inner.config, name, None) for name in ("_name_or_path", "use_cache")}
    with quiet_transformers(), tensorboard_in(log_folder):
        opens = OpensAgain(given.model, given.tokenizer)
        trainer = make_trainer(rlhf, given, arguments)
        checkpoint = last_checkpoint(scratch)
        if checkpoint is not None:
            say(f"resuming from {checkpoint.name}")
        # PPO saves no checkpoints, so SIGTERM ends it at once.
        with bar(label, batch.steps, "step") as line, deferred() if rlhf.method != "ppo" else nullcontext() as request:
            for callback in (opens, _Checks(given.reward), CheckpointMarker(), StepBar(line, _SHOWN)):
                trainer.add_callback(callback)
            if request is not None:
                stop_on(trainer, request)
            if checkpoint is not None and steps_of(checkpoint) == batch.steps:
                _restore(trainer, checkpoint)
            else:
                run_trainer(trainer, rlhf, checkpoint)
        if request is not None and request.made:
            raise Terminated
        inner.generation_config = published
        for name, value in settings.items():
            setattr(inner.config, name, value)
        if isinstance(given.model, PeftModel) and _REFERENCE_ADAPTER in given.model.peft_config:
            given.model.delete_adapter(_REFERENCE_ADAPTER)
        given.model.save_pretrained(folder / POLICY)  # pyright: ignore
        given.tokenizer.save_pretrained(folder / POLICY)
    history = [
        _metrics(entry, rlhf)
        for entry in trainer.state.log_history
        if "train_runtime" not in entry and RLHF_REWARD in entry
    ]
    if not history:
        raise ConfigError(f"rlhf: TRL's trainer took none of {batch.steps} steps; change rlhf.extra or training.extra")
    lines = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in history)
    (folder / METRICS).write_text(lines, encoding="utf-8")
    return TrainedByReward(batch.steps, history[0], history[-1])


def run_trainer(trainer: Any, rlhf: RlhfConfig, checkpoint: Path | None) -> None:
    """Train with a trainer of ``make_trainer``, from a checkpoint if there is one."""
    # PPO does not resume.
    how = {} if checkpoint is None or rlhf.method == "ppo" else {"resume_from_checkpoint": str(checkpoint)}
    if rlhf.method not in SINGLE:
        trainer.train(**how)
        return
    with scored_by_functions(), redirect_stdout(StringIO()):  # PPO prints
        trainer.train(**how)


def _restore(trainer: Any, checkpoint: Path) -> None:
    """Load the weights and the log of a checkpoint after the last step. The trainer would take another step."""
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))


class _Checks(TrainerCallback):
    """Stops a training whose reward distinguishes nothing."""

    def __init__(self, reward: RewardFunction) -> None:
        self._reward = reward

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._reward.check(state.global_step, state.max_steps)


def _metrics(entry: dict[str, Any], rlhf: RlhfConfig) -> dict[str, float | None]:
    """A line of metrics, with the KL divergence of a response in nats beside TRL's."""
    kl = kl_of(entry, rlhf)
    if LOSS not in entry:  # PPO's is of the policy and of the values
        entry = entry | {LOSS: entry["loss/policy_avg"]}
    entry = entry if kl is None else entry | {RLHF_KL: kl}
    return {key: value if value is not None and math.isfinite(value) else None for key, value in entry.items()}


def kl_of(entry: dict[str, Any], rlhf: RlhfConfig) -> float | None:
    """The KL divergence of the policy from the reference in nats a response, from what TRL logs; None without any.

    GRPO and RLOO log the mean of a token. Online DPO logs beta times the log-ratios of the better and the worse
    responses, whose mean is an unbiased estimate; its own sum counts padding, too. Half of XPO's responses are the
    reference's.
    """
    if rlhf.method in ("grpo", "rloo"):
        return entry["kl"] * entry[RLHF_LENGTH] if "kl" in entry and RLHF_LENGTH in entry else None
    if rlhf.method == "online_dpo":
        chosen, rejected = entry.get("rewards/chosen"), entry.get("rewards/rejected")
        return None if chosen is None or rejected is None else (chosen + rejected) / (2 * rlhf.kl_coefficient)
    return entry.get("loss/kl" if rlhf.method == "nash_md" else "objective/kl")

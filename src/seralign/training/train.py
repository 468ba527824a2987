"""Runs one training, from a starting policy to a saved policy. It can be resumed from every checkpoint."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from seralign import distributed
from seralign.config import TrainingConfig
from seralign.errors import ConfigError, one_line
from seralign.objectives import ObjectiveSum
from seralign.policy.abilities import abilities
from seralign.policy.heads import HEADS
from seralign.policy.packs import fill
from seralign.policy.quiet import quiet_transformers
from seralign.policy.token_logps import TokenLogps
from seralign.progress import bar, say
from seralign.runs.layout import HELDOUT_PREFIX, LOSS, METRICS, POLICY, SCRATCH
from seralign.termination import Terminated, deferred
from seralign.training.arguments import training_arguments
from seralign.training.averaging import TailAverage
from seralign.training.batches import PackDataset, loss_denominators, row_sizes
from seralign.training.checkpoints import CheckpointMarker, last_checkpoint
from seralign.training.moving import Moves, MovingReference
from seralign.training.plan import Pack, Plan
from seralign.training.reopening import OpensAgain
from seralign.training.shards import as_before, check_divided, checkpoint_folder, tell_others
from seralign.training.step_bar import StepBar
from seralign.training.steps import RunningState
from seralign.training.terminating import stop_on
from seralign.training.trainer import PreferenceTrainer

HELDOUT_LOSS = HELDOUT_PREFIX + LOSS
# Metrics beside the progress bar, with their words.
_SHOWN = {"loss": "loss", "rewards/accuracies": "accuracy", "margins": "margin"}


@dataclass(frozen=True)
class TrainingData:
    """Training and held-out examples, with the reference log-probabilities [R] of their responses if needed by the
    objective.

    ``heldout_first``: log-probabilities of the held-out responses [R] under the policy at the start of the
    training, from the same packs; None if they have to be measured.

    ``reference_tokens``, ``heldout_reference_tokens``: Log-probabilities of each token under the reference, if the
    objective reads them.

    ``moves``: How the reference follows the policy; it then begins at the policy itself, and there are no
    log-probabilities of it.
    """

    examples: datasets.Dataset
    plan: Plan
    reference: np.ndarray | None
    heldout: datasets.Dataset | None = None
    heldout_packs: list[Pack] | None = None
    heldout_reference: np.ndarray | None = None
    heldout_first: np.ndarray | None = None
    moves: Moves | None = None
    reference_tokens: TokenLogps | None = None
    heldout_reference_tokens: TokenLogps | None = None


@dataclass(frozen=True)
class Trained:
    """Metrics of a training.

    ``train`` is the last line of training metrics. ``heldout_first`` and ``heldout`` are the held-out metrics before
    and after the training (empty without held-out pairs). ``heldout_values``: log-probabilities of the held-out
    responses [R] by step, as far as this call measured them without DeepSpeed.
    """

    steps: int
    pairs: int
    train: dict[str, float | None]
    heldout_first: dict[str, float | None]
    heldout: dict[str, float | None]
    heldout_values: dict[int, np.ndarray]


def heldout_packs(
    heldout: datasets.Dataset, objective: ObjectiveSum, config: TrainingConfig, packed_length: int
) -> list[Pack]:
    """Packs of the held-out pairs."""
    sizes = row_sizes(heldout, objective.reads)
    return [Pack(rows) for rows in fill(np.arange(len(heldout)), sizes, config.tokens_per_pack, packed_length)]


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    objective: ObjectiveSum,
    config: TrainingConfig,
    folder: Path,
    *,
    section: str,
    seed: int,
    label: str,
    log_folder: Path,
) -> Trained:
    """Train ``model`` in place and save it to ``folder/policy``, and the metrics to ``folder/metrics.jsonl``.

    Checkpoints are in ``folder/scratch``. If the function is called again after it was killed, with the same initial
    model, it resumes from the last complete checkpoint, and ends with the same weights and the same metrics.

    Args:
        model: The policy at the start of the training, on the device of this process.
        tokenizer: Saved with the weights.
        data: Training data and held-out data.
        objective: The loss.
        config: Optimizer, schedule, precision and so on.
        folder: The folder of the stage.
        section: The section of ``config`` in the configuration of the run: ``training`` or ``sft``.
        seed: Seed of the trainer.
        label: Text before the progress bar.
        log_folder: Folder for TensorBoard events.

    Returns:
        The metrics.

    Raises:
        ConfigError: a setting that transformers does not have, or refuses.
        StoreError: a file of the last checkpoint cannot be read.
    """
    if any(parameter.requires_grad and parameter.dtype == torch.float16 for parameter in model.parameters()):
        raise ConfigError(
            f"policy.dtype: float16 weights cannot be trained; set float32, and if needed {section}.precision: float16"
        )
    scratch = checkpoint_folder(folder / SCRATCH, config)
    check_divided(model, config)
    with quiet_transformers(), as_before():
        average = TailAverage(model, config.average, data.plan.steps) if config.average else None
        running = RunningState(objective)
        moving = None if data.moves is None else MovingReference(model, data.moves)
        trainer = _trainer(
            model, tokenizer, data, objective, config, scratch, section, seed, log_folder, running, moving, average
        )
        checkpoint = distributed.broadcast(last_checkpoint(scratch) if distributed.is_main() else None)
        if checkpoint is None:
            tell_others(folder / SCRATCH, config, section)
        else:
            say(f"resuming from {checkpoint.name}")
            trainer.args.eval_on_start = False
            running.restore(checkpoint)
            if moving is not None:
                moving.restore(checkpoint)
            if average is not None:
                average.restore(checkpoint)
        with bar(label, data.plan.steps, "step") as line, deferred() as request:
            trainer.add_callback(StepBar(line, _SHOWN))
            stop_on(trainer, request)
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        if any(distributed.gather(request.made)):
            raise Terminated
        if average is not None:
            average.apply()
        measured = average is None and _last(trainer.state.log_history, HELDOUT_LOSS).get("step") == data.plan.steps
        if data.heldout is not None and not measured:
            trainer.evaluate()
        trainer.save_model(str(folder / POLICY))
    # The last entry has the time of this process only, which means nothing after resuming.
    history = [_finite(entry) for entry in trainer.state.log_history if "train_runtime" not in entry]
    if distributed.is_main():
        # A pickle; all of its content is in the configuration of the run.
        (folder / POLICY / "training_args.bin").unlink(missing_ok=True)
        # After resuming, the first lines come from the checkpoint, with another order of keys.
        lines = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in history)
        (folder / METRICS).write_text(lines, encoding="utf-8")
    distributed.barrier()
    return Trained(
        steps=data.plan.steps,
        pairs=len(data.examples),
        train=_last(history, LOSS),
        heldout_first=next((entry for entry in history if HELDOUT_LOSS in entry), {}),
        heldout=_last(history, HELDOUT_LOSS),
        heldout_values={} if trainer.is_deepspeed_enabled else trainer.heldout_values,
    )


def _trainer(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    objective: ObjectiveSum,
    config: TrainingConfig,
    scratch: Path,
    section: str,
    seed: int,
    log_folder: Path,
    running: RunningState,
    moving: MovingReference | None,
    average: TailAverage | None,
) -> PreferenceTrainer:
    heldout, longest = None, abilities(model).longest
    if data.heldout is not None and data.heldout_packs is not None:
        held_tokens = data.heldout_reference_tokens
        heldout = PackDataset(
            data.heldout, data.heldout_packs, objective, longest, data.heldout_reference, reference_tokens=held_tokens
        )
    denominators = loss_denominators(data.examples, data.plan, objective)
    packs = PackDataset(
        data.examples, data.plan.packs, objective, longest, data.reference, denominators, data.reference_tokens
    )
    arguments = training_arguments(config, data.plan, scratch, section=section, heldout=heldout is not None, seed=seed)
    kept = [running, *(each for each in (moving, average) if each is not None)]
    try:
        with tensorboard_in(log_folder):
            trainer = PreferenceTrainer(
                objective=objective,
                section=section,
                head=HEADS[objective.head],
                running=running,
                moving=moving,
                first_values=data.heldout_first,
                model=model,
                args=arguments,
                train_dataset=packs,
                eval_dataset=heldout,
                processing_class=tokenizer,
                # The marker completes a checkpoint, so mean and state have to be in it before.
                callbacks=[OpensAgain(model, tokenizer), *kept, CheckpointMarker()],
            )
    except (ValueError, RuntimeError, ImportError) as error:  # a tracker that is unknown or not installed
        raise ConfigError(f"{section}: transformers refuses the settings: {one_line(error)}") from None
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    return trainer


@contextmanager
def tensorboard_in(folder: Path) -> Iterator[None]:
    """Set the folder of a TensorBoard tracker that is made in this block; it reads it from the environment."""
    name = "TENSORBOARD_LOGGING_DIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _last(history: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return next((entry for entry in reversed(history) if key in entry), {})


def _finite(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value if math.isfinite(value) else None for key, value in entry.items()}

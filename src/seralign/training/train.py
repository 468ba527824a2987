"""One training from a starting policy to a saved one, resumable at every checkpoint."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from seralign import distributed
from seralign.config import TrainingConfig
from seralign.config.load import one_line
from seralign.errors import ConfigError, StoreError
from seralign.objectives import Objective
from seralign.policy.load import quiet_transformers
from seralign.progress import Bar, bar, say
from seralign.store import SCRATCH, file_digest, write_json
from seralign.training.batches import PackDataset, ReferenceLogps, loss_denominators, row_lengths
from seralign.training.plan import Pack, Plan, plan_scoring
from seralign.training.trainer import PreferenceTrainer

# Settings of TrainingArguments that follow from ours; `training.extra` may not contradict them.
_OWNED = {
    "output_dir", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps",
    "train_sampling_strategy", "remove_unused_columns", "learning_rate", "lr_scheduler_type", "warmup_steps",
    "weight_decay", "max_grad_norm", "optim", "bf16", "fp16", "save_strategy", "save_steps", "save_total_limit",
    "logging_steps", "logging_strategy", "eval_strategy", "eval_steps", "eval_on_start", "report_to", "seed",
    "data_seed", "gradient_checkpointing", "use_cpu", "load_best_model_at_end", "ignore_data_skip", "hub_model_id",
    "push_to_hub", "auto_find_batch_size",
}  # fmt: skip
_MARKER = "complete.json"


@dataclass(frozen=True)
class TrainingData:
    """Pairs to train on and to hold out, each with its reference log-probabilities where the objective has one."""

    pairs: datasets.Dataset
    plan: Plan
    reference: ReferenceLogps | None
    heldout: datasets.Dataset | None = None
    heldout_packs: list[Pack] | None = None
    heldout_reference: ReferenceLogps | None = None


def heldout_packs(heldout: datasets.Dataset, objective: Objective, config: TrainingConfig) -> list[Pack]:
    """Packs of the held-out pairs."""
    sequences = 2 if objective.uses_rejected else 1
    lengths = row_lengths(heldout, objective.uses_rejected)
    return [Pack(rows) for rows in plan_scoring(lengths, config.tokens_per_pack, sequences)]


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    objective: Objective,
    config: TrainingConfig,
    folder: Path,
    *,
    seed: int,
    label: str,
    log_folder: Path,
) -> dict[str, Any]:
    """Train ``model`` in place and save it to ``folder/policy``, with ``folder/metrics.jsonl`` beside it.

    Checkpoints are kept in ``folder/scratch``; called again after it was killed, it goes on from the last whole one
    and ends with the same weights.

    Returns:
        Figures: steps, pairs, the last line of training metrics and of held-out ones.

    Raises:
        ConfigError: ``training.extra`` names what is no setting of ``transformers.TrainingArguments``.
        StoreError: a checkpoint is corrupt.
    """
    scratch = folder / SCRATCH
    with quiet_transformers():
        arguments = training_arguments(config, data, scratch, seed=seed)
        trainer = PreferenceTrainer(
            objective=objective,
            model=model,
            args=arguments,
            train_dataset=PackDataset(
                data.pairs, data.plan.packs, loss_denominators(data.pairs, data.plan, objective), objective,
                data.reference,
            ),
            eval_dataset=_heldout_dataset(data, objective),
            processing_class=tokenizer,
            callbacks=[_Marker()],
        )  # fmt: skip
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        checkpoint = distributed.broadcast(_last_checkpoint(scratch) if distributed.is_main() else None)
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(log_folder)
        with bar(label, data.plan.steps, "step") as line:
            trainer.add_callback(_Progress(line))
            _run(trainer, checkpoint)
        if data.heldout is not None and (config.eval_steps is None or data.plan.steps % config.eval_steps):
            trainer.evaluate()
        trainer.save_model(str(folder / "policy"))
    history = trainer.state.log_history
    if distributed.is_main():
        # Holds a pickle; everything in it is in the run's configuration.
        (folder / "policy" / "training_args.bin").unlink(missing_ok=True)
        lines = "".join(json.dumps(_finite(entry)) + "\n" for entry in history)
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    distributed.barrier()
    return {
        "steps": data.plan.steps,
        "pairs": len(data.pairs),
        "train": _finite(_last(history, "loss")),
        "heldout_first": _finite(_first(history, "eval_loss")),
        "heldout": _finite(_last(history, "eval_loss")),
    }


def training_arguments(config: TrainingConfig, data: TrainingData, scratch: Path, *, seed: int) -> TrainingArguments:
    """Our settings, in transformers' words."""
    owned = sorted(_OWNED & config.extra.keys())
    if owned:
        raise ConfigError(f"training.extra.{owned[0]}: set by seralign's own options or its plan; leave it out")
    from accelerate import PartialState

    device = PartialState().device
    settings: dict[str, Any] = {
        "output_dir": str(scratch),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": data.plan.accumulation,
        "num_train_epochs": 1,
        "max_steps": data.plan.steps,
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
        "gradient_checkpointing": config.gradient_checkpointing,
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": 2,
        "logging_steps": config.log_steps,
        "eval_strategy": "steps" if config.eval_steps and data.heldout is not None else "no",
        "eval_steps": config.eval_steps,
        "eval_on_start": data.heldout is not None,
        "report_to": config.report_to or "none",
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": device.type == "cuda",
        "seed": seed,
    }
    try:
        arguments = TrainingArguments(**(settings | config.extra))
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"training: transformers refuses the settings: {one_line(error)}") from None
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs are for torchrun; DataParallel would split packs
    return arguments


def _heldout_dataset(data: TrainingData, objective: Objective) -> PackDataset | None:
    if data.heldout is None or data.heldout_packs is None:
        return None
    plan = Plan(data.heldout_packs, steps=1, accumulation=len(data.heldout_packs), world_size=1)
    denominators = loss_denominators(data.heldout, plan, objective)
    return PackDataset(data.heldout, plan.packs, denominators, objective, data.heldout_reference)


def _run(trainer: PreferenceTrainer, checkpoint: Path | None) -> None:
    if checkpoint is None:
        trainer.train()
        return
    say(f"going on from {checkpoint.name}")
    trainer.args.eval_on_start = False
    trainer.train(resume_from_checkpoint=str(checkpoint))


def _last_checkpoint(scratch: Path) -> Path | None:
    """The newest checkpoint that was written to its end. Half-written ones are removed."""
    whole: list[tuple[int, Path]] = []
    for path in scratch.glob("checkpoint-*"):
        if not (path / _MARKER).is_file():
            shutil.rmtree(path)
            continue
        whole.append((int(path.name.rsplit("-", 1)[1]), path))
    if not whole:
        return None
    newest = max(whole)[1]
    try:
        digests = json.loads((newest / _MARKER).read_text(encoding="utf-8"))
        broken = [name for name, digest in digests.items() if file_digest(newest / name) != digest]
    except (OSError, ValueError) as error:
        broken = [one_line(error)]
    if broken:
        raise StoreError(
            f"{newest}: the checkpoint is corrupt ({', '.join(broken)}). Delete this folder; the same command goes on "
            "from the checkpoint before it"
        )
    return newest


class _Marker(TrainerCallback):
    """Marks a checkpoint as whole once everything of it is written, with digests of its files."""

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        distributed.barrier()
        if distributed.is_main():
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            write_json(folder / _MARKER, {str(path.relative_to(folder)): file_digest(path) for path in files})


class _Progress(TrainerCallback):
    """The bar, with the metrics that tell whether it goes well."""

    def __init__(self, line: Bar) -> None:
        self._line = line

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._line.at(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._line.at(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        shown = {"loss": "loss", "rewards/accuracies": "accuracy", "margins": "margin"}
        words = [f"{word} {logs[name]:.3f}" for name, word in shown.items() if logs and name in logs]
        if words:
            self._line.note("  ".join(words))


def _last(history: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return next((entry for entry in reversed(history) if key in entry), {})


def _first(history: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return next((entry for entry in history if key in entry), {})


def _finite(entry: dict[str, Any]) -> dict[str, Any]:
    def number(value: Any) -> Any:
        return None if isinstance(value, float) and not torch.isfinite(torch.tensor(value)) else value

    return {key: number(value) for key, value in entry.items()}

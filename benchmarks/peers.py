"""The peers: TRL's DPO trainer, its precomputation of the reference, and plain forward passes.

TRL is used as someone who knows it would: autocast where it is faster, sdpa (its default), no gradient checkpointing
unless that is faster, the fused AdamW, neither evaluation nor saving, rows of similar length next to each other where
their order is free.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_from_disk
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.trainer_callback import PrinterCallback
from trl import DPOConfig, DPOTrainer

from benchmarks.jobs import (
    BETA,
    LEARNING_RATE,
    MAX_GRAD_NORM,
    OPTIMIZER,
    STEP_PAIRS,
    Job,
    Scored,
    Trained,
    digest,
    step_ends,
    trained,
)
from benchmarks.models import WINDOW
from benchmarks.workers import Actions


def training(job: Job) -> Actions:
    """``tokens()`` and ``run(steps, batch, checkpointing)``: DPO on the job's rows in the job's order.

    The reference is precomputed by the first trainer that is made of the data on disk; later ones find it there.
    """
    data = job.folder / "peer"
    if not data.exists():
        rows = job.rows()
        Dataset.from_list([rows[number] for number in job.order]).save_to_disk(data)

    def run(steps: int, batch: int, checkpointing: bool) -> Trained:
        settings = {
            "max_steps": steps,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": STEP_PAIRS // batch,
            "gradient_checkpointing": checkpointing,
            "bf16": job.precision == "bfloat16",
        }
        trainer = _trainer(job.folder, load_from_disk(data), settings)
        began = time.perf_counter()
        with step_ends() as ends:
            trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return trained(losses, began, ends, steps)

    return {"tokens": lambda: _tokens(_trainer(job.folder, load_from_disk(data), {})), "run": run}


def precomputation(job: Job) -> Actions:
    """``tokens()`` and ``run(batch, count, precision)``: the reference's log-probabilities of the job's first rows.

    The reference is a model of its own: TRL's head then leaves out the metrics that it computes for a policy.
    """
    rows = job.rows()

    def run(batch: int, count: int, precision: str = job.precision) -> Scored:
        trainer = _Timed.make(job.folder, _dataset(count), batch, precision)
        places = {number: place for place, number in enumerate(_order(count))}
        columns = [trainer.train_dataset[name] for name in ("ref_chosen_logps", "ref_rejected_logps")]
        return Scored([column[places[row]] for column in columns for row in range(count)], trainer.seconds)

    def _order(count: int) -> list[int]:
        return [number for number in job.order if number < count]

    def _dataset(count: int) -> Dataset:
        return Dataset.from_list([rows[number] for number in _order(count)])

    return {"tokens": lambda: _tokens(_trainer(job.folder, _dataset(len(rows)), {}, precompute=False)), "run": run}


def plain_candidates(job: Job) -> Actions:
    """``tokens()`` and ``run(batch, count)``: candidates under policy and reference, as implicit-reward scripts do it.

    A right-padded batch of a prompt's candidates, all logits, ``log_softmax`` in float32, the sum over the response.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(job.folder / "model")
    models = [_model(job.folder / name).eval() for name in ("model", "reference")]
    groups = []
    for row in job.rows():
        prompt = _ids(tokenizer, row["prompt"], add_generation_prompt=True)
        answers = [[{"role": "assistant", "content": text}] for text in row["candidates"]]
        groups.append((prompt, [_ids(tokenizer, row["prompt"] + answer)[len(prompt) :] for answer in answers]))

    def run(batch: int, count: int, precision: str = job.precision) -> Scored:
        began = time.perf_counter()
        found: list[float] = []
        for model in models:
            for prompt, candidates in groups[:count]:
                for start in range(0, len(candidates), batch):
                    found += _plain_logps(
                        model, tokenizer.pad_token_id, prompt, candidates[start : start + batch], precision
                    )
        return Scored(found, time.perf_counter() - began)

    return {
        "tokens": lambda: [digest(prompt, ids) for prompt, candidates in groups for ids in candidates],
        "run": run,
    }


class _Timed(DPOTrainer):
    """Tells how long TRL's own precomputation takes, without the tokenization before it."""

    seconds = 0.0

    @classmethod
    def make(cls, folder: Path, data: Dataset, batch: int, precision: str) -> _Timed:
        settings = {"precompute_ref_batch_size": batch, "bf16": precision == "bfloat16"}
        reference = _model(folder / "model").eval()
        return _trainer(folder, data, settings, make=lambda **given: cls(ref_model=reference, **given))

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        began = time.perf_counter()
        found = super()._precompute_ref_logps(dataset, name, batch_size)
        self.seconds = time.perf_counter() - began
        return found


def _trainer(
    folder: Path, data: Dataset, settings: dict[str, Any], *, precompute: bool = True, make: Any = DPOTrainer
) -> Any:
    given: dict[str, Any] = {
        "output_dir": str(folder / "trl"),
        "beta": BETA,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "optim": OPTIMIZER,
        "weight_decay": 0.0,
        "max_grad_norm": MAX_GRAD_NORM,
        "max_length": WINDOW,
        "precompute_ref_log_probs": precompute,
        "train_sampling_strategy": "sequential",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }
    warnings.filterwarnings("ignore", category=FutureWarning)  # TRL's own settings, under names that are going away
    trainer = make(
        model=_model(folder / "model"),
        args=DPOConfig(**(given | settings)),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _model(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _tokens(trainer: Any) -> list[str]:
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return [digest(*(row[name] for name in names)) for row in trainer.train_dataset.select_columns(list(names))]


def _ids(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> list[int]:
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)["input_ids"]


def _plain_logps(
    model: PreTrainedModel, padding: int, prompt: list[int], responses: list[list[int]], precision: str
) -> list[float]:
    width = len(prompt) + max(map(len, responses))
    input_ids = torch.full((len(responses), width), padding)
    attention_mask, response_mask = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
    for row, response in enumerate(responses):
        end = len(prompt) + len(response)
        input_ids[row, :end] = torch.tensor(prompt + response)
        attention_mask[row, :end] = 1
        response_mask[row, len(prompt) : end] = 1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    logps = logits[:, :-1].float().log_softmax(-1).gather(2, input_ids[:, 1:, None])[:, :, 0]
    return (logps * response_mask[:, 1:]).sum(1).tolist()

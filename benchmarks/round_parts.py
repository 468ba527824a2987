"""What the peer's round is made of: plain forward passes, ``generate``, TRL's trainer, each as a good script has it.

Forward passes are right-padded batches of rows of similar length, without gradients, and without the logits of tokens
before the first response; all responses of a batch of prompts come from one ``generate``; the trainer is TRL's with its
references computed in advance.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.trainer_callback import PrinterCallback
from trl import DPOConfig, DPOTrainer

from benchmarks.models import WINDOW
from benchmarks.round_job import Batches, RoundJob

Ids = list[int]
IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


def load_models(job: RoundJob, *names: str) -> tuple[PreTrainedModel, ...]:
    return tuple(AutoModelForCausalLM.from_pretrained(job.policy(name), dtype=torch.float32).eval() for name in names)


def pair_logps(model: PreTrainedModel, pairs: Sequence[dict[str, Any]], batch: int) -> list[float]:
    """Chosen responses, then rejected ones."""
    return _logps(model, [(row["prompt_ids"], row[name]) for name in IDS[1:] for row in pairs], batch)


def margins_of(logps: Sequence[float], pairs: Sequence[dict[str, Any]]) -> list[float]:
    """Margins, from log-probabilities as of :func:`pair_logps` and the reference's that were kept."""
    half = len(logps) // 2
    return [
        chosen - rejected - row["reference"]
        for chosen, rejected, row in zip(logps[:half], logps[half:], pairs, strict=True)
    ]


def rewards_of(
    models: tuple[PreTrainedModel, ...], rows: Sequence[tuple[Ids, Ids]], gamma: float, batch: int
) -> list[float]:
    """The ensembled implicit reward under (last, before, reference), in nats without beta."""
    last, before, against = (_logps(model, rows, batch) for model in models)
    return [(1 - gamma) * a + gamma * b - c for a, b, c in zip(last, before, against, strict=True)]


def _logps(model: PreTrainedModel, rows: Sequence[tuple[Ids, Ids]], batch: int) -> list[float]:
    found = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row][0]) - len(rows[row][1]))
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        width = max(len(rows[row][0]) + len(rows[row][1]) for row in places)
        first = min(len(rows[row][0]) for row in places)
        input_ids = torch.zeros((len(places), width), dtype=torch.long)
        seen, wanted = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
        for at, row in enumerate(places):
            prompt, response = rows[row]
            end = len(prompt) + len(response)
            input_ids[at, :end] = torch.tensor(prompt + response)
            seen[at, :end] = 1
            wanted[at, len(prompt) : end] = 1
        with torch.no_grad():
            logits = model(
                input_ids=input_ids, attention_mask=seen, use_cache=False, logits_to_keep=width - first + 1
            ).logits
        logps = logits[:, :-1].log_softmax(-1).gather(2, input_ids[:, first:, None])[:, :, 0]
        for row, value in zip(places, (logps * wanted[:, first:]).sum(1).tolist(), strict=True):
            found[row] = value
    return found


def sample_answers(
    model: PreTrainedModel, prompts: Sequence[dict[str, Any]], tokenizer: Any, job: RoundJob, batches: Batches
) -> list[list[Ids]]:
    """``samples`` responses a prompt at temperature 1, each up to and with its end token."""
    found: list[list[Ids]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]["ids"]))
    for start in range(0, len(order), batches.sample):
        places = order[start : start + batches.sample]
        given = tokenizer.pad(
            {"input_ids": [prompts[row]["ids"] for row in places]}, padding_side="left", return_tensors="pt"
        )
        with torch.no_grad():
            answered = model.generate(
                input_ids=given["input_ids"],
                attention_mask=given["attention_mask"],
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                num_return_sequences=job.samples,
                max_new_tokens=job.max_new_tokens,
                cache_implementation=batches.cache,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )[:, given["input_ids"].shape[1] :]
        for at, ids in enumerate(answered.tolist()):
            end = ids.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in ids else len(ids)
            found[places[at // job.samples]].append(ids[:end])
    return found


class _Tokenized(DPOTrainer):
    """Takes rows of token ids as they are."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def make_trainer(job: RoundJob, rows: Sequence[dict[str, Any]], tokenizer: Any, batches: Batches, steps: int) -> Any:
    """TRL's trainer from the last policy against the supervised one, whose log-probabilities it has computed."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # TRL's own settings, under names that are going away
    policy, reference = load_models(job, "last", "reference")
    trainer = _Tokenized(
        model=policy,
        ref_model=reference,
        args=DPOConfig(
            output_dir=str(job.folder / "peer"),
            beta=job.beta,
            learning_rate=job.learning_rate,
            lr_scheduler_type="constant",
            optim=job.optimizer,
            weight_decay=0.0,
            max_grad_norm=job.max_grad_norm,
            bf16=job.precision == "bfloat16",
            max_length=WINDOW,
            max_steps=steps,
            per_device_train_batch_size=batches.train,
            gradient_accumulation_steps=job.step_pairs // batches.train,
            gradient_checkpointing=False,
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=max(1, batches.score // 2),  # pairs, of two rows each
            train_sampling_strategy="sequential",
            use_cpu=True,
            dataloader_pin_memory=False,
            save_strategy="no",
            eval_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            seed=0,
        ),
        train_dataset=Dataset.from_list([{name: row[name] for name in IDS} for row in rows]),
        processing_class=tokenizer,
    )
    trainer.ref_model = None  # precomputed: nothing asks it any more
    trainer.remove_callback(PrinterCallback)
    return trainer

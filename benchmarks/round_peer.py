"""The peer's side of ``round``: one SeRA round of plain forward passes, ``generate`` and TRL, as a good script does it.

Everything is read and tokenized already, and each policy is loaded once. Forward passes are right-padded batches of
rows of similar length, without gradients; all responses of a batch of prompts come from one ``generate``.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.trainer_callback import PrinterCallback
from trl import DPOConfig, DPOTrainer

from benchmarks.round_job import Batches, Round, RoundJob, timed
from benchmarks.workers import Actions

Ids = list[int]
Rows = list[dict[str, Any]]
# Seeds of the rounds that are checked or timed; ``generate`` draws from torch's own generator.
_SEED = 17
_IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


def side(job: RoundJob) -> Actions:
    """``trial()`` picks the batches, ``round(batches, number)`` is timed, ``margins``, ``rewards`` and ``losses``
    serve the checks."""
    pairs, prompts = job.read("pairs"), job.read("prompts")
    tokenizer = AutoTokenizer.from_pretrained(job.policy("last"))

    def margins() -> dict[str, list[float]]:
        last, reference = _models(job, "last", "reference")
        own, against = (_pair_logps(model, pairs, 64) for model in (last, reference))
        return {"logps": own, "margins": _margins(own, against)}

    def rewards(candidates: list[tuple[Ids, Ids]]) -> list[float]:
        return _rewards(_models(job, "last", "before", "reference"), candidates, job.gamma, 64)

    def losses(rows: list[dict[str, Ids]], steps: int, batch: int) -> list[float]:
        trainer = _trainer(job, rows, tokenizer, batch, steps)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    return {
        "trial": lambda: _trial(job, pairs, prompts, tokenizer),
        "round": lambda batches, number: _round(job, pairs, prompts, tokenizer, batches, number),
        "margins": margins,
        "rewards": rewards,
        "losses": losses,
    }


def _round(job: RoundJob, pairs: Rows, prompts: Rows, tokenizer: Any, batches: Batches, number: int) -> Round:
    stages: dict[str, float] = {}
    began = time.perf_counter()
    torch.manual_seed(_SEED + number)
    with timed(stages, "load"):
        last, before, reference = _models(job, "last", "before", "reference")
    with timed(stages, "score"):
        found = _margins(*(_pair_logps(model, pairs, batches.score) for model in (last, reference)))
    with timed(stages, "select"):
        ensembled = [
            (1 - job.gamma) * margin + job.gamma * row["margin_before"]
            for margin, row in zip(found, pairs, strict=True)
        ]
        kept = top(ensembled, job.keep)
    with timed(stages, "sample"):
        candidates = _sample(last, prompts, tokenizer, job, batches.sample)
    with timed(stages, "bootstrap"):
        flat = [(row["ids"], ids) for row, answers in zip(prompts, candidates, strict=True) for ids in answers]
        rewards = _rewards((last, before, reference), flat, job.gamma, batches.score)
        contrasts = best_and_worst(candidates, rewards, tokenizer.eos_token_id)
        made = top([margin for *_, margin in contrasts], job.keep_generated)
    del last, before, reference
    with timed(stages, "compose"):
        largest_first = sorted(kept, key=lambda row: -ensembled[row])
        rows = _compose(job, pairs, largest_first, prompts, candidates, contrasts, made)
    with timed(stages, "train: reference log-probabilities"):
        trainer = _trainer(job, rows, tokenizer, batches.train, job.steps)
    with timed(stages, "train: steps"):
        trainer.train()
    with timed(stages, "train: save"):
        trainer.save_model(str(job.folder / "peer" / "policy"))
    tokens = sum(len(ids) for answers in candidates for ids in answers)
    figures = {
        "kept": [pairs[row]["pair_id"] for row in kept],
        "contrasts": len(contrasts),
        "generated": sum(row["generated"] for row in rows),
        "trained_pairs": len(rows),
        "sampled_tokens": tokens,
        "unfinished": sum(ids[-1] != tokenizer.eos_token_id for answers in candidates for ids in answers),
    }
    return Round(time.perf_counter() - began, stages, figures)


def top(values: Sequence[float], fraction: float) -> list[int]:
    """Places of the largest values: ``fraction`` of them to the nearest number, at least one, in ascending order."""
    count = max(1, math.floor(fraction * len(values) + 0.5)) if values else 0
    return sorted(sorted(range(len(values)), key=lambda row: -values[row])[:count])


def best_and_worst(
    candidates: Sequence[Sequence[Ids]], rewards: Sequence[float], end: int
) -> list[tuple[int, int, int, float]]:
    """(prompt, best, worst, margin) of each prompt with two different finished responses of unlike reward."""
    found, start = [], 0
    for prompt, answers in enumerate(candidates):
        own = rewards[start : start + len(answers)]
        start += len(answers)
        usable: dict[tuple[int, ...], int] = {}
        for at, ids in enumerate(answers):
            if len(ids) > 1 and ids[-1] == end:
                usable.setdefault(tuple(ids), at)
        ranked = sorted(usable.values(), key=lambda at: (-own[at], at))
        if len(ranked) > 1 and own[ranked[0]] > own[ranked[-1]]:
            found.append((prompt, ranked[0], ranked[-1], own[ranked[0]] - own[ranked[-1]]))
    return found


def _compose(
    job: RoundJob,
    pairs: Rows,
    kept: list[int],
    prompts: Rows,
    candidates: list[list[Ids]],
    contrasts: list[tuple[int, int, int, float]],
    made: list[int],
) -> Rows:
    """Generated pairs up to their share, and the kept offline pairs; in each step, rows of similar length together."""
    count = min(len(made), int(job.share * len(pairs) + 1e-9), int(job.share / (1 - job.share) * len(kept) + 1e-9))
    wanted = sorted(made, key=lambda at: -contrasts[at][3])[:count]
    rows = [pairs[row] | {"generated": False} for row in kept[: len(pairs) - count]]
    for prompt, best, worst, _ in (contrasts[at] for at in wanted):
        answers = candidates[prompt]
        ids = {"prompt_ids": prompts[prompt]["ids"], "chosen_ids": answers[best], "rejected_ids": answers[worst]}
        rows.append(ids | {"generated": True})
    shuffled = [rows[row] for row in torch.randperm(len(rows)).tolist()]
    steps = [shuffled[start : start + job.step_pairs] for start in range(0, len(shuffled), job.step_pairs)]
    return [row for step in steps for row in sorted(step, key=_length, reverse=True)]


def _length(row: dict[str, Ids]) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def _models(job: RoundJob, *names: str) -> tuple[PreTrainedModel, ...]:
    return tuple(AutoModelForCausalLM.from_pretrained(job.policy(name), dtype=torch.float32).eval() for name in names)


def _pair_logps(model: PreTrainedModel, pairs: Sequence[dict[str, Any]], batch: int) -> list[float]:
    """Chosen responses, then rejected ones."""
    return _logps(model, [(row["prompt_ids"], row[name]) for name in _IDS[1:] for row in pairs], batch)


def _margins(own: Sequence[float], against: Sequence[float]) -> list[float]:
    scores = [a - b for a, b in zip(own, against, strict=True)]
    half = len(scores) // 2
    return [chosen - rejected for chosen, rejected in zip(scores[:half], scores[half:], strict=True)]


def _rewards(
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
        input_ids = torch.zeros((len(places), width), dtype=torch.long)
        seen, wanted = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
        for at, row in enumerate(places):
            prompt, response = rows[row]
            end = len(prompt) + len(response)
            input_ids[at, :end] = torch.tensor(prompt + response)
            seen[at, :end] = 1
            wanted[at, len(prompt) : end] = 1
        with torch.no_grad():
            logits = model(input_ids=input_ids, attention_mask=seen, use_cache=False).logits
        logps = logits[:, :-1].log_softmax(-1).gather(2, input_ids[:, 1:, None])[:, :, 0]
        for row, value in zip(places, (logps * wanted[:, 1:]).sum(1).tolist(), strict=True):
            found[row] = value
    return found


def _sample(
    model: PreTrainedModel, prompts: Sequence[dict[str, Any]], tokenizer: Any, job: RoundJob, batch: int
) -> list[list[Ids]]:
    """``samples`` responses a prompt at temperature 1, each up to and with its end token."""
    found: list[list[Ids]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]["ids"]))
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
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


def _trainer(job: RoundJob, rows: Sequence[dict[str, Any]], tokenizer: Any, batch: int, steps: int) -> Any:
    """TRL's trainer from the last policy against the supervised one, whose log-probabilities it has computed."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # TRL's own settings, under names that are going away
    policy, reference = _models(job, "last", "reference")
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
            bf16=False,
            max_length=64,
            max_steps=steps,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=job.step_pairs // batch,
            gradient_checkpointing=False,
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=64,
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
        train_dataset=Dataset.from_list([{name: row[name] for name in _IDS} for row in rows]),
        processing_class=tokenizer,
    )
    trainer.ref_model = None  # precomputed: nothing asks it any more
    trainer.remove_callback(PrinterCallback)
    return trainer


def _trial(job: RoundJob, pairs: Rows, prompts: Rows, tokenizer: Any) -> tuple[Batches, dict[str, dict[int, float]]]:
    """The fastest of a few batch sizes for each part, and the seconds of all that were tried."""
    (last,) = _models(job, "last")
    few = [row | {"generated": False} for row in pairs[: 2 * job.step_pairs]]
    parts: dict[str, tuple[Sequence[int], Callable[[int], Any]]] = {
        "score": ((16, 64, 256), lambda batch: _pair_logps(last, pairs, batch)),
        "sample": (
            (len(prompts) // 4, len(prompts)),
            lambda size: _sample(last, prompts, tokenizer, job, size),
        ),
        "train": (
            (job.step_pairs // 4, job.step_pairs // 2, job.step_pairs),
            lambda batch: _trainer(job, few, tokenizer, batch, 2).train(),
        ),
    }
    seconds: dict[str, dict[int, float]] = {}
    for name, (sizes, work) in parts.items():
        work(sizes[-1])
        seconds[name] = {}
        for size in sizes:
            began = time.perf_counter()
            work(size)
            seconds[name][size] = round(time.perf_counter() - began, 3)
    best = {name: min(found, key=lambda size, found=found: found[size]) for name, found in seconds.items()}
    return Batches(**best), seconds

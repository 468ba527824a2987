"""The peer's side of ``round``: one SeRA round of plain forward passes, ``generate`` and TRL, as a good script does it.

Everything is read and tokenized already, and each policy is loaded once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.round_job import Batches, Round, RoundJob, timed
from benchmarks.round_parts import Ids, load_models, make_trainer, margins_of, pair_logps, rewards_of, sample_answers
from benchmarks.workers import Actions

Rows = list[dict[str, Any]]
# Seeds of the rounds that are checked or timed; ``generate`` draws from torch's own generator.
_SEED = 17
# A batch size so much slower than another is the last that is tried.
HOPELESS = 1.5


def side(job: RoundJob) -> Actions:
    """``trial()`` picks the batches, ``round(batches, number)`` is timed, ``rewards`` and ``losses`` serve the checks,
    and with ``answer`` they are what the process does before it is timed."""
    pairs, prompts = job.read("pairs"), job.read("prompts")
    tokenizer = AutoTokenizer.from_pretrained(job.policy("last"))

    def rewards(candidates: list[tuple[Ids, Ids]], batch: int) -> list[float]:
        return rewards_of(load_models(job, "last", "before", "reference"), candidates, job.gamma, batch)

    def answer(batches: Batches) -> None:
        sample_answers(*load_models(job, "last"), prompts[:1], tokenizer, job, batches)

    def losses(rows: list[dict[str, Ids]], steps: int, batches: Batches) -> list[float]:
        trainer = make_trainer(job, rows, tokenizer, batches, steps)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    return {
        "trial": lambda: _trial(job, pairs, prompts, tokenizer),
        "round": lambda batches, number: _round(job, pairs, prompts, tokenizer, batches, number),
        "rewards": rewards,
        "answer": answer,
        "losses": losses,
    }


def _round(job: RoundJob, pairs: Rows, prompts: Rows, tokenizer: Any, batches: Batches, number: int) -> Round:
    stages: dict[str, float] = {}
    began = time.perf_counter()
    torch.manual_seed(_SEED + number)
    with timed(stages, "load"):
        last, before, reference = load_models(job, "last", "before", "reference")
    with timed(stages, "score"):
        own = pair_logps(last, pairs, batches.score)
        found = margins_of(own, pairs)
    with timed(stages, "select"):
        ensembled = [
            (1 - job.gamma) * margin + job.gamma * row["margin_before"]
            for margin, row in zip(found, pairs, strict=True)
        ]
        kept = top(ensembled, job.keep)
    with timed(stages, "sample"):
        candidates = sample_answers(last, prompts, tokenizer, job, batches)
    with timed(stages, "bootstrap"):
        flat = [(row["ids"], ids) for row, answers in zip(prompts, candidates, strict=True) for ids in answers]
        rewards = rewards_of((last, before, reference), flat, job.gamma, batches.score)
        contrasts = best_and_worst(candidates, rewards, tokenizer.eos_token_id)
        made = top([margin for *_, margin in contrasts], job.keep_generated)
    del last, before, reference
    with timed(stages, "compose"):
        largest_first = sorted(kept, key=lambda row: -ensembled[row])
        rows = _compose(job, pairs, largest_first, prompts, candidates, contrasts, made)
    with timed(stages, "train: reference log-probabilities"):
        trainer = make_trainer(job, rows, tokenizer, batches, job.steps)
    with timed(stages, "train: steps"):
        trainer.train()
    with timed(stages, "train: save"):
        trainer.save_model(str(job.folder / "peer" / "policy"))
    tokens = sum(len(ids) for answers in candidates for ids in answers)
    figures = {
        "contrasts": len(contrasts),
        "generated": sum(row["generated"] for row in rows),
        "trained_pairs": len(rows),
        "sampled_tokens": tokens,
        "unfinished": sum(ids[-1] != tokenizer.eos_token_id for answers in candidates for ids in answers),
    }
    computed = {"logps": own, "margins": found, "kept": [pairs[row]["pair_id"] for row in kept]}
    return Round(time.perf_counter() - began, stages, figures, computed)


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


def _trial(job: RoundJob, pairs: Rows, prompts: Rows, tokenizer: Any) -> tuple[Batches, dict[str, dict[str, float]]]:
    """The fastest of a few settings for each part, and the seconds of all that were tried."""
    (last,) = load_models(job, "last")
    few, asked = pairs[: job.step_pairs], prompts[: max(2, len(prompts) // 2)]
    batches = Batches(1, 1, None, 1)
    seconds: dict[str, dict[str, float]] = {}

    def tried(name: str, settings: Sequence[dict[str, Any]], work: Callable[[Batches, int], Any]) -> Batches:
        work(batches, 1)  # once for little, which is not counted
        found: list[float] = []
        for each in settings:
            began = time.perf_counter()
            work(replace(batches, **each), job.pairs)
            found.append(time.perf_counter() - began)
            seconds.setdefault(name, {})[", ".join(map(str, each.values()))] = round(found[-1], 3)
            if found[-1] > HOPELESS * min(found):
                break
        return replace(batches, **settings[found.index(min(found))])

    batches = tried(
        "score",
        [{"score": size} for size in (1, 2, 4, 8)],
        lambda now, most: pair_logps(last, few[:most], now.score),
    )
    batches = tried(
        "sample",
        [{"sample": size, "cache": cache} for size in (len(asked), len(asked) // 2) for cache in (None, "static")],
        lambda now, most: sample_answers(last, asked[:most], tokenizer, job, now),
    )
    batches = tried(
        "train",
        [{"train": size} for size in (1, 4)],
        lambda now, most: make_trainer(job, few[:most], tokenizer, now, 1).train(),
    )
    return batches, seconds

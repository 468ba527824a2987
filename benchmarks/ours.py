"""seralign's side of the benchmarks, by the functions that a run's own stages use; nothing else of it is called."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from torch import nn

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
from seralign.config import DataConfig, PolicyConfig, ScoringConfig, SourceConfig, TrainingConfig
from seralign.data.content import Unencoded
from seralign.data.prepare import prepare_pairs
from seralign.data.tokens import Encoder, make_encoder
from seralign.objectives import DPO, one
from seralign.pipeline.scoring import with_prompts
from seralign.policy.abilities import packed_length
from seralign.policy.identity import PolicySource
from seralign.policy.load import end_tokens, load_model, load_tokenizer
from seralign.rewards.cached_logprobs import ScoringPolicy, logps
from seralign.rewards.responses import Responses, plan_scoring
from seralign.training.batches import row_sizes
from seralign.training.plan import Plan, plan_training
from seralign.training.train import TrainingData, train

# A run's defaults, but for what is named here.
_TRAINING = TrainingConfig(
    learning_rate=LEARNING_RATE,
    schedule="constant",
    warmup=0.0,
    max_steps=1,
    batch_size=STEP_PAIRS,
    weight_decay=0.0,
    max_grad_norm=MAX_GRAD_NORM,
    optimizer=OPTIMIZER,
    save_steps=10**6,
    log_steps=1,
)


def training(job: Job) -> Actions:
    """``tokens()``, ``lengths()``, ``order()`` and ``run(steps)``: DPO on one epoch of the job's rows.

    The reference is scored in the trainer's own packs, as the training stage does it, by the first that is made of the
    job's folder; later ones find it there.
    """
    table = _pairs(job)
    policy = PolicyConfig(model=str(job.folder / "model"))
    source = PolicySource(str(policy.model))
    longest = packed_length(source, policy)
    settings = replace(_TRAINING, tokens_per_pack=job.tokens_per_pack)
    whole = _plan(table, settings, len(table) // STEP_PAIRS, longest)
    reference = _reference(job, table, whole)

    def run(steps: int) -> Trained:
        folder = job.folder / "ours"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        model = load_model(source, policy, "float32", trainable=True)
        began = time.perf_counter()
        with step_ends() as ends:
            train(
                model,
                load_tokenizer(source, policy),
                TrainingData(table, _plan(table, settings, steps, longest), reference),
                one("dpo", DPO(BETA)),
                replace(settings, max_steps=steps, precision=job.precision),
                folder,
                section="training",
                seed=0,
                label="training",
                log_folder=folder / "logs",
            )
        return trained(_losses(folder), began, ends, steps)

    return {
        "tokens": lambda: _tokens(table),
        "lengths": lambda: Responses(table).lengths.tolist(),
        "order": lambda: [whole.step_rows(step).tolist() for step in range(whole.steps)],
        "run": run,
    }


def scoring(job: Job) -> Actions:
    """``tokens()``, ``lengths()`` and ``run(count, precision)``: log-probabilities of the job's first rows."""
    table = _pairs(job)
    return {
        "tokens": lambda: _tokens(table),
        "lengths": lambda: Responses(table).lengths.tolist(),
        "run": _scorer(job, ("model",), lambda count: Responses(_first(table, count))),
    }


def candidates(job: Job) -> Actions:
    """``tokens()``, ``lengths()`` and ``run(count, precision)``: the candidates of the job's first prompts under policy
    and reference, as a round's bootstrapping scores them."""
    encoder = _encoder(job)
    found = encoder.encode(
        [
            Unencoded(
                tuple(row["prompt"]),
                tuple(({"role": "assistant", "content": text},) for text in row["candidates"]),
                "rows",
            )
            for row in job.rows()
        ]
    )
    prompts: dict[str, list[Any]] = {"prompt_id": [], "text": [], "ids": []}
    rows: dict[str, list[Any]] = {"prompt_id": [], "ids": []}
    for number, encoded in enumerate(found):
        if isinstance(encoded, str):
            raise RuntimeError(f"row {number} cannot be used: {encoded}")
        for name, value in zip(prompts, (str(number), encoded.prompt, list(encoded.prompt_ids)), strict=True):
            prompts[name].append(value)
        rows["prompt_id"] += [str(number)] * len(encoded.response_ids)
        rows["ids"] += map(list, encoded.response_ids)
    each = len(rows["ids"]) // len(prompts["ids"])
    table = with_prompts(pa.table(rows), datasets.Dataset.from_dict(prompts))
    return {
        "tokens": lambda: [digest(row["prompt_ids"], row["ids"]) for row in table],  # pyright: ignore
        "lengths": lambda: Responses(table).lengths.tolist(),
        "run": _scorer(job, ("model", "reference"), lambda count: Responses(_first(table, count * each))),
    }


def _scorer(job: Job, names: tuple[str, ...], responses_of: Any) -> Any:
    """``run(count, precision)`` under policies that are loaded already: planning and scoring are timed."""
    config = PolicyConfig(model=str(job.folder / "model"))
    longest = packed_length(PolicySource(str(config.model)), config)

    @lru_cache(maxsize=1)
    def loaded(precision: str) -> list[nn.Module]:
        sources = [PolicySource(str(job.folder / name)) for name in names]
        return [load_model(source, config, "float32", scores_in=precision) for source in sources]

    loaded(job.precision)

    def run(count: int, precision: str = job.precision) -> Scored:
        models = loaded(precision)
        began = time.perf_counter()
        responses = responses_of(count)
        packs = plan_scoring(responses, ScoringConfig().tokens_per_pack, longest)
        found: list[float] = []
        for name, model in zip(names, models, strict=True):
            policy = ScoringPolicy(name, "", lambda model=model: model, precision=precision)
            found += logps(responses, packs, policy, None).tolist()
        return Scored(found, time.perf_counter() - began)

    return run


def _plan(table: datasets.Dataset, settings: TrainingConfig, steps: int, longest: int) -> Plan:
    return plan_training(row_sizes(table, "all"), replace(settings, max_steps=steps), seed=0, packed_length=longest)


def _reference(job: Job, table: datasets.Dataset, plan: Plan) -> np.ndarray:
    config = PolicyConfig(model=str(job.folder / "model"))
    policy = ScoringPolicy(
        "reference",
        "",
        lambda: load_model(PolicySource(str(config.model)), config, "float32", scores_in=job.precision),
        precision=job.precision,
    )
    file = job.folder / "reference.npy"
    if not file.exists():
        responses = Responses(table)
        packs = [responses.numbering.of_rows(pack.rows) for pack in plan.packs if pack.counts]
        np.save(file, logps(responses, packs, policy, None))
    return np.load(file)


def _encoder(job: Job) -> Encoder:
    source = PolicySource(str(job.folder / "model"))
    tokenizer = load_tokenizer(source, PolicyConfig(model=source.model))
    data = DataConfig(max_length=WINDOW, max_prompt_length=WINDOW - 1, overlong="drop")
    return make_encoder(tokenizer, data, end_tokens(source, tokenizer))


def _pairs(job: Job) -> datasets.Dataset:
    rows = job.folder / "rows.jsonl"
    table, report = prepare_pairs(SourceConfig(str(rows)), _encoder(job), job.folder / "pairs.arrow", "--pairs")
    if report.kept != report.read:
        raise RuntimeError(f"{report.read - report.kept} of {report.read} rows were dropped: {report.dropped}")
    return table


def _first(table: datasets.Dataset, count: int) -> datasets.Dataset:
    return table if count == len(table) else table.select(range(count))


def _tokens(table: datasets.Dataset) -> list[str]:
    return [digest(row["prompt_ids"], *row["response_ids"]) for row in table]  # pyright: ignore


def _losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]

"""seralign's side of ``round``: a run of its own that is taken up before its last round, by the product's ``train``."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.models import WINDOW
from benchmarks.round_job import CHECKED_STEPS, ROUND, Round, RoundJob
from benchmarks.workers import Actions
from seralign.config import RunConfig, load_config
from seralign.data.table import read_table as read_pairs
from seralign.pipeline.composing import training_pairs
from seralign.pipeline.context import Loop, run_results
from seralign.pipeline.run import train
from seralign.pipeline.stage import Context, Stage, carry_out
from seralign.policy.abilities import packed_length
from seralign.policy.identity import PolicySource
from seralign.policy.load import end_tokens, load_tokenizer
from seralign.runs import Run
from seralign.runs.files import read_table
from seralign.runs.layout import CANDIDATES, GENERATED, MARGINS, SELECTION
from seralign.training.batches import row_sizes
from seralign.training.plan import plan_training

_IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


def config_of(job: RoundJob) -> RunConfig:
    """The run that both sides are a round of: a run's defaults, but for what is named here."""
    return load_config(
        None,
        {
            "recipe": "sera",
            "out": str(job.folder / "run"),
            "rounds": ROUND,
            "policy.model": str(job.folder / "model"),
            "data": {
                "pairs": {"path": str(job.folder / "rows.jsonl")},
                "prompts": {"path": str(job.folder / "asked.jsonl")},
                "heldout_fraction": 0.0,
                "max_length": WINDOW,
                "overlong": "drop",
            },
            "objective": {"name": "dpo", "beta": job.beta},
            "training": {
                "learning_rate": job.learning_rate,
                "schedule": "constant",
                "warmup": 0.0,
                "max_steps": job.steps,
                "batch_size": job.step_pairs,
                # As in train_long_prompt: as fast as the default, in less memory.
                "tokens_per_pack": 2560,
                "precision": job.precision,
                "max_grad_norm": job.max_grad_norm,
                "optimizer": job.optimizer,
                "save_steps": 10**6,
                "log_steps": 1,
            },
            "scoring": {"ensemble_weight": job.gamma, "dtype": "float32"},
            "selection.fraction": job.keep,
            "bootstrap": {
                "samples": job.samples,
                "temperature": 1.0,
                "max_new_tokens": job.max_new_tokens,
                "selection": {"fraction": job.keep_generated},
                "shares": [job.share],
            },
            # What a script of the peer's kind has not either: answers to held-out prompts, log-ratios token by token.
            "evaluation": {"prompts": 0, "token_pairs": 0},
            "stop.metric": "never",
        },
    )


def preparation(job: RoundJob) -> Actions:
    """``prepare()``: the run up to its last round, and what the peer reads of it."""

    def prepare() -> None:
        config = config_of(job)
        _train_until(config, f"round-{ROUND}/")
        root = Path(config.out)
        (root / "cache").rename(_cache(job))
        scored = read_table(root / f"round-{ROUND - 1}/score" / MARGINS)
        kept = [
            {"margin_before": margin, "reference": chosen - rejected - margin}
            for margin, chosen, rejected in zip(
                *(scored[name].to_pylist() for name in ("margin", "chosen_logp", "rejected_logp")), strict=True
            )
        ]
        found = read_pairs(root / "data/pairs.arrow")
        if len(found) != job.pairs:
            raise RuntimeError(f"{job.pairs - len(found)} of {job.pairs} pairs were dropped")
        pairs = [
            {"pair_id": row["example_id"]} | _ids(row) | numbers  # pyright: ignore
            for row, numbers in zip(found, kept, strict=True)
        ]
        prompts = [{"ids": row["ids"]} for row in read_pairs(root / "data/prompts.arrow")]  # pyright: ignore
        for name, rows in (("pairs", pairs), ("prompts", prompts)):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (job.folder / f"{name}.jsonl").write_text(text, encoding="utf-8")

    return {"prepare": prepare}


class _Reached(Exception):
    """The stage before which the base run ends."""


def _train_until(config: RunConfig, stages: str) -> None:
    """Run ``config`` until a stage begins whose name begins with ``stages``, as if the run were killed there."""

    def carry_out_before(run: Run, stage: Stage, context: Context) -> None:
        if stage.name.startswith(stages):
            raise _Reached
        carry_out(run, stage, context)

    with mock.patch("seralign.pipeline.run.carry_out", carry_out_before), suppress(_Reached):
        train(config)


def side(job: RoundJob) -> Actions:
    """``round(...)``: the run is taken up where its second round ended; ``results()``: what the last one computed."""
    config = config_of(job)
    store = Run(Path(config.out))
    stages = [f"round-{ROUND}/{part}" for part in ("score", "select", "sample", "bootstrap", "compose", "train")]

    def once(*_: object) -> Round:
        for name in (f"round-{ROUND}", "result", "cache", f"logs/round-{ROUND}"):
            shutil.rmtree(store.root / name, ignore_errors=True)
        shutil.copytree(_cache(job), store.root / "cache")
        began = time.perf_counter()
        train(config)
        seconds = time.perf_counter() - began
        records = {name.split("/")[1]: store.record(name) for name in stages}
        spent = {name: record.seconds for name, record in records.items()}
        sampled, made, composed = (records[name].figures for name in ("sample", "bootstrap", "compose"))
        return Round(
            seconds,
            spent | {"all else": round(seconds - sum(spent.values()), 3)},
            {
                "contrasts": made["pairs"],
                "generated": composed["generated"],
                "trained_pairs": composed["offline"] + composed["generated"],
                "sampled_tokens": round(sampled["length"] * sampled["responses"]),
                "unfinished": round(sampled["unfinished"] * sampled["responses"]),
            },
            {"policy": records["train"].figures["digest"]},
        )

    return {"round": once, "results": lambda: _results(job, store)}


def _cache(job: RoundJob) -> Path:
    """The cache of log-probabilities as it was before the last round."""
    return job.folder / "cache"


def _results(job: RoundJob, store: Run) -> dict[str, Any]:
    """What the stages of the last round wrote, as plain lists, and what its first steps trained on."""
    stage = f"round-{ROUND}"
    pairs = read_pairs(store.path("data", "pairs.arrow"))
    scored = read_table(store.path(f"{stage}/score", MARGINS))
    selected = read_table(store.path(f"{stage}/select", SELECTION)).to_pylist()
    candidates = read_table(store.path(f"{stage}/sample", CANDIDATES)).to_pylist()
    prompt_ids = {row["prompt_id"]: row["ids"] for row in read_pairs(store.path("data", "prompts.arrow"))}  # pyright: ignore
    place: dict[Any, int] = {}
    for at, row in enumerate(candidates):
        place.setdefault((row["prompt_id"], tuple(row["ids"])), at)
    generated: Any = read_pairs(store.path(f"{stage}/bootstrap", GENERATED))
    source = PolicySource(str(store.path(f"round-{ROUND - 1}/train", "policy")))
    config = config_of(job)
    tokenizer = load_tokenizer(source, config.policy)
    longest = packed_length(source, config.policy)
    ends = end_tokens(source, tokenizer)
    loop = Loop(config, store, tokenizer, ends, config.objective, longest, None, run_results(store), None, None)
    table = training_pairs(store, ROUND, pairs, len(generated) > 0)
    plan = plan_training(row_sizes(table, "all"), config.training, loop.seed(f"{stage}/train"), packed_length=longest)
    order = [int(row) for step in range(min(CHECKED_STEPS, plan.steps)) for row in plan.step_rows(step)]
    metrics = store.path(f"{stage}/train", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "pair_ids": pairs["example_id"][:],
        "logps": scored["chosen_logp"].to_pylist() + scored["rejected_logp"].to_pylist(),
        "margins": scored["margin"].to_pylist(),
        "ensembled": [row["margin"] for row in selected],
        "kept": [row["example_id"] for row in selected if row["kept"]],
        "candidates": [(list(prompt_ids[row["prompt_id"]]), list(row["ids"])) for row in candidates],
        "prompt_of": [row["prompt_id"] for row in candidates],
        "usable": [row["finished"] and bool(row["text"].strip()) for row in candidates],
        "choices": {
            row["prompt_id"]: tuple(place[row["prompt_id"], tuple(ids)] for ids in row["response_ids"])
            for row in generated
        },
        "training": [_ids(table[row]) for row in order],
        "losses": [entry["loss"] for entry in map(json.loads, metrics) if "loss" in entry],
    }


def _ids(pair: Any) -> dict[str, list[int]]:
    """The token ids of a pair, as the scripts of others read them."""
    return dict(zip(_IDS, ([*pair["prompt_ids"]], *map(list, pair["response_ids"])), strict=True))

"""seralign's side of ``round``: a run of its own that is taken up before its last round, by the product's ``train``."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.round_job import CHECKED_STEPS, ROUND, Round, RoundJob
from benchmarks.workers import Actions
from seralign.config import RunConfig, load_config
from seralign.data.table import read_table as read_pairs
from seralign.files import read_table
from seralign.laboratory.model import build_tokenizer
from seralign.loop.context import Loop
from seralign.loop.rounds import CANDIDATES, GENERATED, SELECTION, training_pairs
from seralign.loop.scoring import MARGINS
from seralign.loop.sera import train
from seralign.objectives import objective_from
from seralign.policy.abilities import packed_length
from seralign.policy.identity import PolicySource
from seralign.policy.load import end_tokens, load_tokenizer
from seralign.store import Run
from seralign.training.batches import row_sizes
from seralign.training.plan import plan_training

_IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


def config_of(job: RoundJob) -> RunConfig:
    """The run that both sides are a round of."""
    common = {"batch_size": job.step_pairs, "optimizer": job.optimizer, "max_grad_norm": job.max_grad_norm}
    packs = {"save_steps": 10**6, "log_steps": 1, "schedule": "constant", "warmup": 0.0}
    return load_config(
        None,
        {
            "out": str(job.folder / "run"),
            "rounds": ROUND,
            "world": {
                "pairs": job.pairs,
                "prompts": job.prompts,
                "demonstrations": job.supervised_steps * 64,
                "heldout": 1,
            },
            "policy.model": str(job.folder / "model"),
            "data.max_length": 64,
            "sft": common | packs | {"learning_rate": 1e-3, "max_steps": job.supervised_steps, "batch_size": 64},
            "objective": {"name": "dpo", "beta": job.beta},
            "training": common | packs | {"learning_rate": job.learning_rate, "max_steps": job.steps},
            "scoring.gamma": job.gamma,
            "selection.fraction": job.keep,
            "bootstrap": {
                "samples": job.samples,
                "temperature": 1.0,
                "max_new_tokens": job.max_new_tokens,
                "batch_size": job.prompts,
                "selection": {"fraction": job.keep_generated},
                "shares": [job.share],
            },
            "evaluation": {"prompts": 0, "baseline": False},
            "stop.metric": "never",
        },
    )


def preparation(job: RoundJob) -> Actions:
    """``prepare()``: the run to its end, and what the peer reads of it; returns the model's parameters."""

    def prepare() -> int:
        tokenizer = build_tokenizer()
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=job.vocabulary,
                hidden_size=job.width,
                intermediate_size=8 * job.width // 3,
                num_hidden_layers=job.layers,
                num_attention_heads=max(1, job.width // 64),
                max_position_embeddings=64,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                tie_word_embeddings=True,
            )
        )
        model.save_pretrained(job.folder / "model")
        tokenizer.save_pretrained(job.folder / "model")
        config = config_of(job)
        train(config)
        root = Path(config.out)
        before = read_table(root / f"round-{ROUND - 1}/score" / MARGINS)["margin"].to_pylist()
        names = ("pair_id", "prompt_ids", "chosen_ids", "rejected_ids")
        pairs = [
            {name: row[name] for name in names} | {"margin_before": margin}  # pyright: ignore
            for row, margin in zip(read_pairs(root / "data/pairs.arrow"), before, strict=True)
        ]
        prompts = [{"ids": row["ids"]} for row in read_pairs(root / "data/prompts.arrow")]  # pyright: ignore
        for name, rows in (("pairs", pairs), ("prompts", prompts)):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (job.folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        return model.num_parameters()

    return {"prepare": prepare}


def side(job: RoundJob) -> Actions:
    """``round(...)``: the run is taken up where its second round ended; ``results()``: what the last one computed."""
    config = config_of(job)
    store = Run(Path(config.out))
    stages = [f"round-{ROUND}/{part}" for part in ("score", "select", "sample", "bootstrap", "compose", "train")]

    def once(*_: object) -> Round:
        for name in (f"round-{ROUND}", "result", "cache", f"logs/round-{ROUND}"):
            shutil.rmtree(store.root / name, ignore_errors=True)
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
        )

    return {"round": once, "results": lambda: _results(job, store)}


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
    loop = Loop(config, store, tokenizer, ends, objective_from(config.objective), longest, None, None)
    table = training_pairs(loop, ROUND, pairs, len(generated) > 0)
    plan = plan_training(row_sizes(table, True), config.training, loop.seed(f"{stage}/train"), packed_length=longest)
    order = [int(row) for step in range(min(CHECKED_STEPS, plan.steps)) for row in plan.step_rows(step)]
    metrics = store.path(f"{stage}/train", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "pair_ids": pairs["pair_id"][:],
        "logps": scored["chosen_logp"].to_pylist() + scored["rejected_logp"].to_pylist(),
        "margins": scored["margin"].to_pylist(),
        "ensembled": [row["margin"] for row in selected],
        "kept": [row["pair_id"] for row in selected if row["kept"]],
        "candidates": [(list(prompt_ids[row["prompt_id"]]), list(row["ids"])) for row in candidates],
        "prompt_of": [row["prompt_id"] for row in candidates],
        "usable": [row["finished"] and bool(row["text"].strip()) for row in candidates],
        "choices": {
            row["prompt_id"]: tuple(
                place[row["prompt_id"], tuple(row[name])] for name in ("chosen_ids", "rejected_ids")
            )
            for row in generated
        },
        "training": [{name: list(table[row][name]) for name in _IDS} for row in order],
        "losses": [entry["loss"] for entry in map(json.loads, metrics) if "loss" in entry],
    }

"""The stages before the rounds: the world, the data as tokens, the supervised policy, who the reference is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
from transformers import AutoConfig, PreTrainedTokenizerBase

from seralign import distributed
from seralign.config import RunConfig, SourceConfig
from seralign.data.prepare import DataReport, prepare_demonstrations, prepare_pairs, prepare_prompts, split_heldout
from seralign.data.sources import fingerprint
from seralign.data.table import prompts_of, read_table, write_prompts, write_subset
from seralign.data.tokens import make_encoder
from seralign.errors import ConfigError
from seralign.laboratory.world import make_world
from seralign.loop.context import Loop, Policy, run_stage
from seralign.loop.training import train_stage
from seralign.objectives import get_objective
from seralign.policy.identity import PolicySource, fetch, weights_digest
from seralign.records import content_id
from seralign.store import Run, StageRecord

WORLD = "world"
DATA = "data"
SFT = "sft"
POLICIES = "policies"


@dataclass(frozen=True)
class Tables:
    """The run's data, memory-mapped; ``digest`` names their contents."""

    pairs: datasets.Dataset
    heldout: datasets.Dataset
    prompts: datasets.Dataset
    heldout_prompts: datasets.Dataset
    demonstrations: datasets.Dataset | None
    digest: str


def world_stage(run: Run, config: RunConfig) -> RunConfig:
    """Make the built-in world, and let it supply what the configuration leaves out."""
    if config.world is None:
        return config
    inputs = {"world": content_id(dataclasses.asdict(config.world))}

    def work(folder: Path) -> dict[str, Any]:
        if distributed.is_main():
            make_world(config.world, folder)  # pyright: ignore[reportArgumentType]
        return {}

    run_stage(run, WORLD, inputs, work)

    def source(name: str, given: SourceConfig | None) -> SourceConfig:
        return given or SourceConfig(path=str(run.path(WORLD, f"{name}.jsonl")))

    data = config.data
    return replace(
        config,
        policy=replace(config.policy, model=config.policy.model or str(run.path(WORLD, "model"))),
        data=replace(
            data,
            pairs=source("pairs", data.pairs),
            heldout=source("heldout", data.heldout),
            prompts=source("prompts", data.prompts),
            demonstrations=source("demonstrations", data.demonstrations),
        ),
    )


def data_stage(run: Run, config: RunConfig, tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]) -> Tables:
    """Read, tokenize and split the data."""
    data = config.data
    sources = {
        f"data.{name}": source
        for name in ("pairs", "heldout", "prompts", "demonstrations")
        if (source := getattr(data, name)) is not None and (name != "demonstrations" or config.sft is not None)
    }
    inputs = {key: fingerprint(source, key) for key, source in sources.items()}
    inputs["policy.tokenizer"] = _tokenizer_digest(tokenizer)
    encoder = make_encoder(tokenizer, data, end_tokens)

    def work(folder: Path) -> dict[str, Any]:
        if not distributed.is_main():
            return {}
        reports: dict[str, DataReport] = {}
        pairs, reports["pairs"] = prepare_pairs(sources["data.pairs"], encoder, folder / "pairs.arrow", "data.pairs")
        if data.heldout is not None:
            heldout, reports["heldout"] = prepare_pairs(data.heldout, encoder, folder / "heldout.arrow", "data.heldout")
        else:
            train_ids, heldout_ids = split_heldout(pairs, data.heldout_fraction, config.seed)
            (folder / "pairs.arrow").rename(folder / "all.arrow")
            pairs = write_subset(folder / "pairs.arrow", read_table(folder / "all.arrow"), train_ids)
            heldout = write_subset(folder / "heldout.arrow", read_table(folder / "all.arrow"), heldout_ids)
            (folder / "all.arrow").unlink()
        if data.prompts is not None:
            _, reports["prompts"] = prepare_prompts(data.prompts, encoder, folder / "prompts.arrow", "data.prompts")
        else:
            write_prompts(folder / "prompts.arrow", prompts_of(pairs))
        write_prompts(folder / "heldout_prompts.arrow", prompts_of(heldout))
        if data.demonstrations is not None and config.sft is not None:
            _, reports["demonstrations"] = prepare_demonstrations(
                data.demonstrations, encoder, folder / "demonstrations.arrow", "data.demonstrations"
            )
        shared = len(set(pairs.unique("prompt_id")) & set(heldout.unique("prompt_id"))) if len(heldout) else 0
        return {
            "pairs": len(pairs),
            "heldout": len(heldout),
            "heldout_prompts_also_trained_on": shared,
            "sources": {name: report.to_dict() for name, report in reports.items()},
        }

    record = run_stage(run, DATA, inputs, work)
    tables = _tables(run, record)
    _check_window(config, tables)
    return tables


def sft_stage(loop: Loop, tables: Tables, base: Policy) -> Policy:
    """Train the supervised policy that the rounds start from, where the configuration asks for one."""
    config = loop.config
    if config.sft is None:
        return base
    demonstrations = tables.pairs if tables.demonstrations is None else tables.demonstrations
    record = train_stage(
        loop,
        SFT,
        start=base,
        reference=None,
        pairs=demonstrations,
        pairs_digest=tables.digest,
        heldout=tables.heldout,
        objective=get_objective("sft", 1.0, 0.0),
        config=config.sft,
    )
    return trained(loop, SFT, "sft", base, record)


def policies_stage(loop: Loop, base: Policy, initial: Policy) -> tuple[Policy, Policy]:
    """Name the starting policy and the reference, and record their weights' digests."""
    given = loop.config.reference
    if given.model is None:
        reference = replace(initial, name="reference")
    else:
        source = fetch(PolicySource(given.model, given.revision, given.adapter))
        reference = Policy("reference", source, weights_digest(source))
    inputs = {"policy.model": base.digest, "policies": initial.digest, "reference.model": reference.digest}
    loop.stage(POLICIES, inputs, lambda folder: {"initial": initial.to_dict(), "reference": reference.to_dict()})
    return initial, reference


def base_policy(config: RunConfig) -> Policy:
    """The model (and adapter) that the configuration names, hashed."""
    source = fetch(PolicySource(str(config.policy.model), config.policy.revision, config.policy.adapter))
    return Policy("base", source, weights_digest(source))


def trained(loop: Loop, stage: str, name: str, start: Policy, record: StageRecord) -> Policy:
    """The policy that a training stage saved: a whole model, or an adapter on the model that it began with."""
    folder = str(loop.run.path(stage, "policy").absolute())
    is_adapter = loop.run.path(stage, "policy", "adapter_config.json").is_file()
    source = PolicySource(start.source.model, adapter=folder) if is_adapter else PolicySource(folder)
    return Policy(name, source, record.figures["digest"])


def _tables(run: Run, record: StageRecord) -> Tables:
    def table(name: str) -> datasets.Dataset:
        return read_table(run.path(DATA, f"{name}.arrow"))

    has_demonstrations = "demonstrations.arrow" in record.outputs
    return Tables(
        pairs=table("pairs"),
        heldout=table("heldout"),
        prompts=table("prompts"),
        heldout_prompts=table("heldout_prompts"),
        demonstrations=table("demonstrations") if has_demonstrations else None,
        digest=record.digest,
    )


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    return content_id([content, tokenizer.chat_template, str(tokenizer.special_tokens_map)])


def _check_window(config: RunConfig, tables: Tables) -> None:
    """Refuse lengths that the model has no positions for, before hours of work."""
    settings = AutoConfig.from_pretrained(
        config.policy.model, revision=config.policy.revision, trust_remote_code=config.policy.trust_remote_code
    )
    window = getattr(settings.get_text_config(), "max_position_embeddings", None)
    if window is None:
        return
    if config.data.max_length > window:
        raise ConfigError(f"data.max_length is {config.data.max_length}, but the model has {window} positions")
    longest = max((len(ids) for ids in tables.prompts["ids"]), default=0)
    bootstrap = config.bootstrap
    if config.rounds > 1 and bootstrap is not None and longest + bootstrap.max_new_tokens > window:
        raise ConfigError(
            f"bootstrap.max_new_tokens is {bootstrap.max_new_tokens}: with the longest prompt of {longest} tokens that "
            f"is more than the model's {window} positions; lower it or data.max_prompt_length"
        )

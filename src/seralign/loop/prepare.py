"""The stages before the rounds: the world, the supervised policy, who the reference is."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from seralign import distributed
from seralign.config import RunConfig, SourceConfig
from seralign.errors import ConfigError
from seralign.laboratory.world import make_world
from seralign.loop.context import Loop, Policy, run_stage
from seralign.loop.data import Tables
from seralign.loop.training import train_stage
from seralign.objectives import get_objective
from seralign.policy.identity import PolicySource, fetch, weights_digest
from seralign.records import content_id
from seralign.store import Run, StageRecord

WORLD = "world"
SFT = "sft"
POLICIES = "policies"


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
            demonstrations=source("demonstrations", data.demonstrations) if config.supervised else None,
        ),
    )


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
        _check_vocabulary(initial.source, source)
        reference = Policy("reference", source, _digest(source))
    inputs = {"policy.model": base.digest, "policies": initial.digest, "reference.model": reference.digest}
    loop.stage(POLICIES, inputs, lambda folder: {"initial": initial.to_dict(), "reference": reference.to_dict()})
    return initial, reference


def base_policy(config: RunConfig) -> Policy:
    """The model (and adapter) that the configuration names, hashed."""
    source = fetch(base_source(config))
    return Policy("initial", source, _digest(source))


def base_source(config: RunConfig) -> PolicySource:
    """The model (and adapter) as the configuration names it."""
    return PolicySource(str(config.policy.model), config.policy.revision, config.policy.adapter)


def _digest(source: PolicySource) -> str:
    """The digest of a policy's weights; one process reads the files."""
    return distributed.broadcast(weights_digest(source) if distributed.is_main() else "")


def _check_vocabulary(policy: PolicySource, reference: PolicySource) -> None:
    sizes = [AutoConfig.from_pretrained(source.model).get_text_config().vocab_size for source in (policy, reference)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"reference.model has a vocabulary of {sizes[1]} tokens and the policy one of {sizes[0]}; "
            "implicit rewards need the same tokens under both"
        )


def trained(loop: Loop, stage: str, name: str, start: Policy, record: StageRecord) -> Policy:
    """The policy that a training stage saved: a whole model, or an adapter on the model that it began with."""
    folder = str(loop.run.path(stage, "policy").absolute())
    is_adapter = loop.run.path(stage, "policy", "adapter_config.json").is_file()
    source = PolicySource(start.source.model, adapter=folder) if is_adapter else PolicySource(folder)
    return Policy(name, source, record.figures["digest"])

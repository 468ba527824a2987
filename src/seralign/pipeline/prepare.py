"""The world of a run, and the models that its configuration names."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from functools import partial
from pathlib import Path

from seralign import distributed
from seralign.config import OwnWorldConfig, PolicyConfig, RunConfig, WorldConfig
from seralign.data.sources import fingerprint
from seralign.errors import ConfigError
from seralign.laboratory.own import OwnWorld
from seralign.laboratory.world import make_world, supplied
from seralign.pipeline.context import Policy, run_results, run_stage
from seralign.pipeline.inputs import ENCODING, FORWARD, settings, tokenizer_inputs
from seralign.pipeline.own_world import make_own_world
from seralign.policy.adapters import vocabulary_rows
from seralign.policy.admission import check_mergeable, check_model
from seralign.policy.bases import other_base
from seralign.policy.identity import PolicySource, fetch, finite_digest
from seralign.policy.load import end_tokens, load_tokenizer
from seralign.progress import say
from seralign.records import content_id
from seralign.report.notes import on_other_base
from seralign.runs import Run
from seralign.runs.figures import WorldFigures
from seralign.runs.layout import WORLD


def world_stage(run: Run, config: RunConfig) -> RunConfig:
    """Make the world, and let it supply what the configuration leaves out.

    Raises:
        ModelError: A model that the configuration gives is none that can be trained; it is found before the world is
            made.
    """
    world = config.world
    if world is None:
        return config
    if config.policy.model is not None:
        check_model(fetch(base_source(config)), config.policy)
    if world.own is not None:
        _own_world_stage(run, config, world, world.own)
    else:

        def work(folder: Path) -> WorldFigures:
            if distributed.is_main():
                make_world(world, folder)
            return WorldFigures()

        run_stage(run, WORLD, {"world": content_id(dataclasses.asdict(world))}, work)
    return supplied(config, run.path(WORLD))


def _own_world_stage(run: Run, config: RunConfig, world: WorldConfig, own: OwnWorldConfig) -> None:
    if config.policy.model is None:
        raise ConfigError("policy.model is missing: it writes the responses of world.name: own")
    made, policy = OwnWorld(world), base_policy(config)
    tokenizer = load_tokenizer(policy.source, config.policy)
    inputs = {"world": content_id(dataclasses.asdict(world)), "policy.model": policy.digest}
    inputs |= {
        "world.own.prompts": fingerprint(own.prompts, "world.own.prompts"),
        "world.own.scorer": made.key()["scorer"],
    } | tokenizer_inputs(tokenizer, end_tokens(policy.source, tokenizer))
    inputs |= settings(config, *ENCODING, *FORWARD, "scoring.dtype")
    with closing(run_results(run)) as results:
        run_stage(run, WORLD, inputs, partial(make_own_world, config, made, policy, results))


def reference_policy(config: RunConfig, policy: PolicySource) -> Policy | None:
    """The policy that ``reference`` names, hashed; None where it names none.

    Raises:
        ModelError: There is no such model, or it is none that can score.
        ConfigError: Its vocabulary is not the policy's.
    """
    given = config.reference
    if given.model is None:
        return None
    source = fetch(PolicySource(given.model, given.revision, given.adapter), "reference")
    check_model(source, config.policy, "reference")
    _check_vocabulary(policy, source, config.policy)
    return Policy("reference", source, _digest(source), other_base=_other_base(source, given.model, "reference"))


def base_policy(config: RunConfig) -> Policy:
    """The model (and adapter) that the configuration names, hashed."""
    source = fetch(base_source(config))
    check_model(source, config.policy)
    if config.policy.merges:
        check_mergeable(source, config.policy)
    digest, other = _digest(source), _other_base(source, str(config.policy.model), "policy")
    return Policy("initial", source, digest, other_base=other)


def base_source(config: RunConfig) -> PolicySource:
    """The model (and adapter) as the configuration names it."""
    return PolicySource(str(config.policy.model), config.policy.revision, config.policy.adapter)


def _digest(source: PolicySource) -> str:
    """The digest of a policy's weights; one process reads the files."""
    return distributed.broadcast(finite_digest(source) if distributed.is_main() else "")


def _other_base(source: PolicySource, named: str, section: str) -> str | None:
    """As ``other_base``, and said where there is one; one process reads the files."""
    found = distributed.broadcast(other_base(source, named) if distributed.is_main() else None)
    if found is not None:
        say(f"warning: {on_other_base(section, found)}")
    return found


def _check_vocabulary(policy: PolicySource, reference: PolicySource, config: PolicyConfig) -> None:
    sizes = [vocabulary_rows(source, config) for source in (policy, reference)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"reference.model has a vocabulary of {sizes[1]} tokens and the policy one of {sizes[0]}; "
            "implicit rewards need the same tokens under both"
        )


def trained_source(folder: Path, start: PolicySource) -> PolicySource:
    """What a training that began with ``start`` saved in a folder: a whole model, or an adapter on the same model."""
    if not (folder / "adapter_config.json").is_file():
        return PolicySource(str(folder.absolute()))
    return PolicySource(start.model, adapter=str(folder.absolute()))

"""The stage of the world ``own``: the policy answers the user's prompts, and the labeller pairs the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import datasets

from seralign import distributed
from seralign.config import RunConfig
from seralign.data.prepare import prepare_prompts
from seralign.data.table import read_table, to_prompt
from seralign.data.table_columns import column_lengths
from seralign.data.templates import decode
from seralign.data.tokens import make_encoder
from seralign.errors import ConfigError
from seralign.laboratory.own import OwnWorld, pairs_per_prompt, sampled_pairs, split_prompts
from seralign.laboratory.world import write_world
from seralign.pipeline.context import Policy, sampled_policy, sampling_dtype
from seralign.policy.load import end_tokens, load_model, load_tokenizer
from seralign.progress import say
from seralign.records import Candidate
from seralign.runs.figures import WorldFigures
from seralign.runs.layout import PROMPTS, SCRATCH
from seralign.runs.results import Results
from seralign.sampling import candidates_of, make_sampler, params_of, sample_candidates


def make_own_world(config: RunConfig, world: OwnWorld, policy: Policy, results: Results, folder: Path) -> WorldFigures:
    """Sample, score, label and write a world into a stage's folder; all processes sample, the first one writes.

    A ``scoring.dtype`` that is set applies, as for answers in the rounds. ``auto`` does not apply here: a world is
    data, which must not depend on the speed of this machine.

    Returns:
        Number of rows of each file, and of possible pairs that were left out, by reason.

    Raises:
        ConfigError: Too few prompts, or responses may be longer than ``data.max_length`` leaves room for.
        DataError: The prompts cannot be read, or no two responses to them form a pair.
    """
    asked, sampling = world.config, world.own.sampling
    source = policy.source
    tokenizer = load_tokenizer(source, config.policy)
    ends = end_tokens(source, tokenizer)
    load = partial(load_model, source, config.policy, sampling_dtype(config))
    sampled = sampled_policy(config, policy, tokenizer, ends, load)
    make_sampler(sampled, sampling, "world.own")  # checks the settings before any work
    file = folder / SCRATCH / PROMPTS
    if distributed.is_main():
        file.parent.mkdir(parents=True, exist_ok=True)
        prepare_prompts(world.own.prompts, make_encoder(tokenizer, config.data, ends), file, "world.own.prompts")
    distributed.barrier()
    prompts = read_table(file)
    _check_room(config, world, prompts)
    split = split_prompts(asked, len(prompts))

    def sample(name: str, prompts: datasets.Dataset, samples: int) -> Sequence[Candidate]:
        table = sample_candidates(
            prompts,
            make_sampler(sampled, sampling, "world.own"),
            params_of(sampling, samples),
            policy=policy.digest,
            end_tokens=ends,
            seed=asked.seed,
            results=results,
            label=f"world, {name}",
        )
        if len(table) < len(prompts) * samples:
            missing = len(prompts) * samples - len(table)
            raise ConfigError(f"world.own.engine: {missing} responses do not fit the policy's tokenizer")
        return candidates_of(table)

    training = prompts.select(split["pairs"])
    files = {"prompts": [{"prompt_ids": ids} for ids in training["ids"][: asked.prompts]]}
    left_out = {}
    for name, rows in split.items():
        count = asked.pairs if name == "pairs" else len(rows)
        used = prompts.select(rows[:count])
        candidates = sample(name, used, 2 * pairs_per_prompt(count, len(used)))
        if distributed.is_main():
            read = [to_prompt(cast(dict[str, Any], row)) for row in used]
            # The scorer gets the text of the token ids, as in all later stages.
            shown = [replace(prompt, text=decode(tokenizer, prompt.ids)) for prompt in read]
            files[name], left_out[name] = sampled_pairs(world, name, shown, candidates, count)
            if left_out[name]:
                reasons = ", ".join(f"{number} {reason}" for reason, number in left_out[name].items())
                say(f"world, {name}: {len(files[name])} pairs for {count}; left out: {reasons}")
    if not distributed.is_main():
        return WorldFigures()
    write_world(world, files, folder)
    return WorldFigures({name: len(rows) for name, rows in files.items()}, left_out)


def _check_room(config: RunConfig, world: OwnWorld, prompts: datasets.Dataset) -> None:
    longest, room = int(column_lengths(prompts, "ids").max()), config.data.max_length
    if longest + world.own.sampling.limit > room:
        raise ConfigError(
            f"world.own.max_new_tokens is {world.own.sampling.limit}: with the longest prompt of {longest} "
            f"tokens that is more than data.max_length, {room}; lower it or data.max_prompt_length"
        )

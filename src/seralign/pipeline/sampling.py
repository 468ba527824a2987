"""The stage that samples answers to the prompts of a round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seralign import distributed
from seralign.config import BootstrapConfig
from seralign.data.table import PROMPT_SCHEMA, to_example
from seralign.data.table_columns import example_ids, response_lengths
from seralign.data.templates import decode
from seralign.evaluation.metrics import distinct_n
from seralign.pipeline.forecast.foreseen import Foreseen, sampled
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.inputs import FORWARD, sampling_keys
from seralign.pipeline.lineage import Round
from seralign.pipeline.rows import demonstrations
from seralign.pipeline.selecting import LOOKED_AT
from seralign.pipeline.stage import Context
from seralign.pipeline.trust import margins_trusted, trust_inputs
from seralign.records import Example
from seralign.rewards.pairing import draw_prompts
from seralign.rewards.self_play import Segment, asked_prompt, before_segment, segment_of
from seralign.runs.figures import SampleFigures
from seralign.runs.files import write_table
from seralign.runs.layout import CANDIDATES, SAMPLE, round_stage
from seralign.runs.streams import StoredRows
from seralign.sampling import params_of, sample_candidates

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


@dataclass(frozen=True)
class Sample:
    """The stage in which a policy answers the prompts of a round, several times each."""

    round: Round

    @property
    def name(self) -> str:
        """``round-2/sample``, ..."""
        return round_stage(self.round.index, SAMPLE)

    def inputs(self, context: Context) -> dict[str, str]:
        """Prompts, the policy that answers, and how it is sampled."""
        loop, policy = context.loop, context.policy(str(self.round.sample_from))
        inputs = {"data": context.reviewed.digest, "policy": policy.digest} | loop.tokenizer_inputs
        drawing = ("bootstrap.prompts", "bootstrap.samples", *sampling_keys("bootstrap"), "seed")
        # Only demonstrations are another set of prompts.
        drawing += ("bootstrap.method",) if bootstrap_config(context).demonstrated else ()
        return inputs | loop.settings(*FORWARD, "scoring.dtype", *drawing) | trust_inputs(context, self.round)

    def work(self, context: Context, folder: Path) -> SampleFigures:
        """Write the candidates; none if margins are not to be used."""
        loop, config = context.loop, bootstrap_config(context)
        role = str(self.round.sample_from)
        prompts, policy = round_prompts(context, self.round.index), context.policy(role)
        if not margins_trusted(context, self.round):
            prompts = prompts.select([])
        table = sample_candidates(
            prompts,
            loop.sampler(policy, config.sampling, "bootstrap", context.before(role)),
            params_of(config.sampling, config.samples),
            policy=policy.digest,
            end_tokens=loop.end_tokens,
            seed=loop.seed(self.name),
            results=loop.results,
            label=f"sampling, {policy.name}",
        )
        if distributed.is_main():
            write_table(folder / CANDIDATES, {column: table[column] for column in table.column_names})
        lengths, finished = pc.list_value_length(table["ids"]).to_numpy(), table["finished"].to_numpy()  # pyright: ignore
        return SampleFigures(
            sampled_from=policy.name,
            prompts=len(prompts),
            responses=len(table),
            length=float(np.mean(lengths)) if len(table) else 0.0,
            unfinished=1.0 - float(np.mean(finished)) if len(table) else 0.0,
            distinct_2=distinct_n(_first_answers(table), 2),
            dropped=len(prompts) * config.samples - len(table),
        )

    def cost(self, forecast: Forecast) -> StageWork:
        """The batches of sampling; nothing for engines other than the built-in one."""
        config, prompts = bootstrap_config(forecast.context), round_prompts(forecast.context, self.round.index)
        limit = config.sampling.limit
        sampling = forecast.sampling("bootstrap", prompts, config.sampling, config.samples, limit)
        count = len(prompts) * config.samples
        return StageWork(self.name, count, "responses", sampling=sampling, loads=1)


def bootstrap_config(context: Context) -> BootstrapConfig:
    """The section ``bootstrap``, which must exist."""
    assert context.config.bootstrap is not None
    return context.config.bootstrap


def round_prompts(context: Context, index: int) -> datasets.Dataset:
    """The prompts of a round; every round draws again. With SPIN and SAPO, each has the id of its demonstration."""
    config = bootstrap_config(context)
    if not config.demonstrated:
        return draw_prompts(context.tables.prompts, config.prompts, context.loop.seed("prompts", index))
    shown = examples_of(round_demonstrations(context, index))
    if config.method == "spin":
        asked = map(asked_prompt, shown)
    else:
        segments, tokenizer = round_segments(context, index), context.loop.tokenizer
        asked = (
            before_segment(each, segments[each.example_id], lambda ids: decode(tokenizer, list(ids))) for each in shown
        )
    rows = [{name: getattr(prompt, name) for name in PROMPT_SCHEMA.names} for prompt in asked]
    return datasets.Dataset(pa.Table.from_pylist(rows, PROMPT_SCHEMA), fingerprint=f"prompts of round {index}")


def round_demonstrations(context: Context, index: int) -> datasets.Dataset:
    """The demonstrations of a round of SPIN or SAPO, drawn again in every round; without those of no token but the
    end."""
    found = demonstrations(context.tables)
    usable = np.flatnonzero(response_lengths(found, 0) > 1)
    drawn = found.select(usable.tolist()) if len(usable) < len(found) else found
    return draw_prompts(drawn, bootstrap_config(context).prompts, context.loop.seed("prompts", index))


def round_segments(context: Context, index: int) -> dict[str, Segment]:
    """The segments of a round's demonstrations that SAPO samples again, by ``example_id``."""
    shown = round_demonstrations(context, index)
    limit, seed = bootstrap_config(context).sampling.limit, context.loop.seed("segments", index)
    found = {
        name: segment_of(tokens, limit, seed, name)
        for name, tokens in zip(example_ids(shown), response_lengths(shown, 0).tolist(), strict=True)
    }
    return {name: segment for name, segment in found.items() if segment is not None}


def foreseen_candidates(forecast: Forecast, index: int) -> Foreseen:
    """The responses that a round will sample."""
    config = bootstrap_config(forecast.context)
    length = forecast.lengths.within(config.sampling.limit).mean
    prompts = round_prompts(forecast.context, index)
    return sampled(round_stage(index, SAMPLE), prompts, config.samples, length)


def examples_of(table: datasets.Dataset) -> Iterator[Example]:
    """The rows of a table of examples."""
    for row in table:
        yield to_example(cast(dict[str, Any], row))


def _first_answers(candidates: pa.Table) -> list[list[int]]:
    """The first response to each of at most ``LOOKED_AT`` prompts. The number is the same in every round, so that the
    share of distinct bigrams can be compared."""
    first = np.flatnonzero(candidates["index"].to_numpy() == 0)
    some = first[:: max(1, len(first) // LOOKED_AT)]
    return StoredRows(candidates.select(["ids"])).take(some)["ids"].to_pylist()

"""Scores the run's tables under policies: log-probabilities, margins, and the margins table of a round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seralign import distributed
from seralign.data.table import PROMPT_SCHEMA
from seralign.data.table_columns import as_examples, column_values, id_column, ordering_forms
from seralign.errors import StoreError
from seralign.evaluation.metrics import margin_accuracy
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.forecast.foreseen import foreseen
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.inputs import SCORING
from seralign.pipeline.lineage import Round
from seralign.pipeline.stage import Context
from seralign.rewards.cached_logprobs import logps, scores
from seralign.rewards.ordering import ordering_of
from seralign.rewards.responses import Responses
from seralign.runs.figures import ScoreFigures
from seralign.runs.files import read_table, write_table
from seralign.runs.layout import MARGINS, SCORE, round_stage
from seralign.runs.streams import write_stream

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


# Candidates that are joined with their prompts at once.
_JOINED = 1000


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs under a policy, [N] each: log-probabilities, lengths in tokens, margin in nats.

    Of rankings and scores, chosen is the best response and rejected the worst, and the margin is the mean over the
    ordered pairs of responses (``seralign.rewards.ordering``). ``longer`` is the same mean of lengths.
    """

    chosen_logp: np.ndarray
    rejected_logp: np.ndarray
    chosen_length: np.ndarray
    rejected_length: np.ndarray
    margin: np.ndarray
    longer: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of a table of margins."""
        return {name: values for name, values in vars(self).items() if name != "longer"}


@dataclass(frozen=True)
class ResponseScores:
    """Scores of responses under a policy, [N] each: log-probability, and implicit reward without beta, in nats."""

    logp: np.ndarray
    score: np.ndarray


def policy_logps(loop: Loop, policy: Policy, responses: Responses, packs: list[np.ndarray] | None = None) -> np.ndarray:
    """Log-probabilities [N] of responses, in the precision of scoring; to the last bit those of the given packs."""
    planned = responses.packs(loop.config.scoring.tokens_per_pack, loop.packed_length) if packs is None else packs
    return logps(responses, planned, loop.scoring_policy(policy), loop.cache, exact=packs is not None)


def implicit_scores(
    loop: Loop, policy: Policy, reference: Policy, responses: Responses, packs: list[np.ndarray] | None = None
) -> ResponseScores:
    """Score responses under a policy, against the policy's own reference."""
    own = policy_logps(loop, policy, responses, packs)
    against = policy_logps(loop, reference, responses, packs) if loop.objective.primary.uses_reference else None
    return ResponseScores(own, scores(loop.objective.primary, own, against, responses.lengths))


def pair_scores(
    loop: Loop, policy: Policy, reference: Policy, pairs: datasets.Dataset, packs: list[np.ndarray] | None = None
) -> PairScores:
    """Margins of all pairs, rankings and scores of a table under a policy.

    Raises:
        ValueError: An example has another form of preference.
    """
    ordering_forms(pairs)  # raises before the model works
    responses = Responses(pairs)
    found, lengths = implicit_scores(loop, policy, reference, responses, packs), responses.lengths.astype(np.int64)
    del responses  # its keys and packs take more than all that follows
    ordering = ordering_of(pairs)
    best, worst = ordering.ends
    ends = (found.logp[best], found.logp[worst], lengths[best], lengths[worst])
    return PairScores(*ends, margin=ordering.margin(found.score), longer=ordering.margin(lengths))


@dataclass(frozen=True)
class Score:
    """The stage that computes the margins of the offline pairs or rankings under the policy of the previous round."""

    round: Round

    @property
    def name(self) -> str:
        """``round-2/score``, ..."""
        return round_stage(self.round.index, SCORE)

    def inputs(self, context: Context) -> dict[str, str]:
        """Pairs, policy and reference, and how they score."""
        policy, reference = self._policies(context)
        inputs = {"pairs": context.reviewed.digest, "policy": policy.digest, "reference": reference.digest}
        return inputs | context.loop.settings(*SCORING, "objective")

    def work(self, context: Context, folder: Path) -> ScoreFigures:
        """Write the margins of all pairs."""
        loop, pairs = context.loop, context.reviewed.pairs
        before = (loop.cache.hits, loop.cache.misses) if loop.cache else (0, 0)
        found = pair_scores(loop, *self._policies(context), pairs)
        if distributed.is_main():
            columns = {"example_id": id_column(pairs), **found.columns()}
            write_table(folder / MARGINS, columns)
        after = (loop.cache.hits, loop.cache.misses) if loop.cache else (0, 0)
        return ScoreFigures(
            margin_mean=float(found.margin.mean()),
            accuracy=margin_accuracy(found.margin),
            cache_hits=after[0] - before[0],
            cache_misses=after[1] - before[1],
        )

    def cost(self, forecast: Forecast) -> StageWork:
        """Passes over all responses, except those in the cache."""
        both = foreseen(forecast.pairs)
        passes = forecast.rewards(both, self.round.reward_policies[:1])
        return StageWork(self.name, len(both), "responses", passes=passes, loads=len(passes))

    def _policies(self, context: Context) -> tuple[Policy, Policy]:
        last = self.round.reward_policies[0]
        return context.policy(last.policy), context.policy(last.reference)


def read_margins(path: Path, example_ids: pa.ChunkedArray) -> np.ndarray:
    """The margins [N] of a scoring stage, checked to be those of the given pairs."""
    table = read_table(path, ["example_id", "margin"])
    if not table["example_id"].equals(example_ids):
        raise StoreError(f"{path}: holds the margins of other pairs")
    return table["margin"].to_numpy()


def stored_with_prompts(candidates: Path, prompts: datasets.Dataset, path: Path) -> datasets.Dataset:
    """A Parquet file of candidates joined with their prompts: examples with one response each.

    Args:
        candidates: The file; its candidates are in the order of the prompts.
        prompts: The prompts; some may have no candidate.
        path: An Arrow stream to write; has the columns of the candidates and of the prompts of examples.

    Returns:
        The stream, memory-mapped.

    Raises:
        StoreError: A candidate answers none of the prompts that are left.
    """
    given = prompts.select_columns(PROMPT_SCHEMA.names).with_format("arrow")
    names = {"ids": "prompt_ids", "text": "prompt", "messages": "messages", "template_inputs": "template_inputs"}

    def joined() -> Iterator[pa.Table]:
        ids, at, last = iter(column_values(prompts, "prompt_id")), -1, None
        with pq.ParquetFile(candidates) as file:
            for batch in file.iter_batches(_JOINED):
                rows = []
                for name in batch["prompt_id"].to_pylist():
                    while name != last:
                        at, last = at + 1, next(ids, None)
                        if last is None:
                            raise StoreError(f"{candidates}: holds answers to other prompts")
                    rows.append(at)
                different, which = np.unique(rows, return_inverse=True)
                own = cast(pa.Table, given[different.tolist()]).take(pa.array(which))
                table = as_examples(pa.Table.from_batches([batch]))
                for theirs, ours in names.items():
                    table = table.append_column(ours, own[theirs])
                yield table

    schema = as_examples(pq.read_schema(candidates).empty_table()).schema
    for theirs, ours in names.items():
        schema = schema.append(PROMPT_SCHEMA.field(theirs).with_name(ours))
    write_stream(path, schema, joined())
    return datasets.Dataset.from_file(str(path))


def with_prompts(candidates: pa.Table, prompts: datasets.Dataset) -> datasets.Dataset:
    """A table of candidates joined with the prompts' ids and texts by ``prompt_id``: examples with one response. It is
    in memory."""
    given = cast(pa.Table, prompts.with_format("arrow")[:])
    rows = pc.index_in(candidates["prompt_id"], value_set=given["prompt_id"])  # pyright: ignore
    table = as_examples(candidates).append_column("prompt_ids", given["ids"].take(rows))
    # Without a given fingerprint, datasets would pickle the whole table to compute one; it is not needed here.
    return datasets.Dataset(table.append_column("prompt", given["text"].take(rows)), fingerprint="candidates")

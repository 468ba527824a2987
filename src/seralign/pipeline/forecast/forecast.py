"""The forecast of a run: what each stage will do.

Stages, seeds, plans and packs are those of the run. Three things are not known yet: how long sampled responses will be
(given as ``Lengths``), which pairs a selection keeps (as many as it will keep are drawn at random), and how many
prompts will give no pair (none, it is assumed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import datasets
import numpy as np

from seralign.config import LOCAL, RunConfig, SamplingConfig, SelectionConfig
from seralign.data.table_columns import column_lengths, id_column
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.forecast.foreseen import Cache, Foreseen, Lengths, TrainingRows, table_rows
from seralign.pipeline.forecast.work import Passes, Sampling, StageWork, Steps
from seralign.pipeline.lineage import BASE, INITIAL, REFERENCE, RewardPolicy, trained_by
from seralign.pipeline.rows import first_pairs
from seralign.pipeline.stage import Context, Stage
from seralign.rewards.responses import plan_scoring
from seralign.rewards.scored_pairs import ScoredPairs, texts
from seralign.rewards.selection import select
from seralign.training.plan import Plan


@dataclass(frozen=True)
class Forecast:
    """What is known of a run that has read its data and done nothing else.

    Args:
        context: The run; it is not touched.
        lengths: Of the responses that will be sampled.
        longest: The longest sequence that the loaded model takes in packed rows.
        cache: What the log-probability cache will have at the stage that is being forecast.
        works: The work of the stages before it, by name.
    """

    context: Context
    lengths: Lengths
    longest: int
    cache: Cache = field(default_factory=Cache)
    works: dict[str, StageWork] = field(default_factory=dict)

    def add(self, stage: Stage[Any]) -> None:
        """Forecast the next stage."""
        rows = len(self.cache)
        work = stage.cost(self)
        if work is not None:
            self.works[stage.name] = replace(work, cached=len(self.cache) - rows)

    @property
    def loop(self) -> Loop:
        """The run."""
        return self.context.loop

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.context.config

    @cached_property
    def pairs(self) -> datasets.Dataset:
        """The pairs that the rounds review and train on: as many as the review before round 1 keeps."""
        pairs, crossfit = self.context.tables.pairs, self.config.crossfit
        if crossfit is None:
            return pairs
        staying = self.kept(pairs, SelectionConfig(fraction=crossfit.keep), self.loop.seed("crossfit"))
        return pairs.select(staying.tolist())

    @cached_property
    def first_rows(self) -> TrainingRows:
        """What round 1 trains on."""
        tables = replace(self.context.tables, pairs=self.pairs)
        return table_rows(first_pairs(self.loop.objective, tables), self.loop.objective.reads)

    def policy(self, role: str) -> Policy:
        """A policy that is not there yet: as the one that the run begins with, with a digest of its own."""
        base, given = self.context.base, self.context.given_reference
        if role == REFERENCE:
            return self.policy(INITIAL) if given is None else given
        if role == BASE or (role == INITIAL and self.config.sft is None):
            return base
        return replace(base, name=role, digest=trained_by(role))

    def rewards(
        self, responses: Foreseen, policies: Sequence[RewardPolicy], packs: list[np.ndarray] | None = None
    ) -> tuple[Passes, ...]:
        """Forward passes for the implicit rewards of responses; in the trainer's packs where they are given."""
        roles = [role for one in policies for role in (one.policy, one.reference)]
        return self.logps(responses, roles if self.loop.objective.primary.uses_reference else roles[::2], packs)

    def logps(
        self, responses: Foreseen, roles: Sequence[str], packs: list[np.ndarray] | None = None
    ) -> tuple[Passes, ...]:
        """Forward passes for log-probabilities of responses under policies, less those that the cache will have."""
        loop, exact = self.loop, packs is not None
        budget, planned = "training", packs
        if planned is None:
            budget, tokens = "scoring", loop.config.scoring.tokens_per_pack
            planned = plan_scoring(responses.as_responses(), tokens, loop.packed_length)
        found = []
        for role in roles:
            key = loop.scoring_policy(self.policy(role)).key
            todo = self.cache.missing(key, responses.keys, planned, exact=exact)
            if todo:
                found.append(self.passes(responses, todo, budget))
        return tuple(found)

    def passes(self, responses: Foreseen, packs: Sequence[np.ndarray], budget: str = "scoring") -> Passes:
        """Forward passes over packs of responses, which the section ``budget`` of the configuration bounds."""
        tokens = np.array([responses.tokens(pack, self.longest) for pack in packs])
        return Passes(budget, sum(map(len, packs)), tokens, int(responses.whole_lengths.max()))

    def row_passes(self, section: str, rows: TrainingRows, packs: Sequence[np.ndarray]) -> Passes:
        """Forward passes over packs of rows, as the trainer runs them."""
        tokens = np.array([rows.tokens(pack, self.longest) for pack in packs])
        responses = sum(int(rows.sizes.sequences[pack].sum()) for pack in packs)
        return Passes(section, responses, tokens, rows.largest(self.longest))

    def steps(self, section: str, rows: TrainingRows, plan: Plan) -> Steps:
        """The optimizer steps of a training plan."""
        tokens = np.array([rows.tokens(pack.rows, self.longest) for pack in plan.packs])
        apart = np.array([rows.apart(pack.rows) for pack in plan.packs])
        return Steps(
            section,
            plan.steps,
            plan.accumulation,
            tokens,
            longest=rows.largest(self.longest),
            shared=int(np.maximum(apart - tokens, 0).sum()),
            padding=int(np.maximum(tokens - apart, 0).sum()),
        )

    def sampling(
        self, section: str, prompts: datasets.Dataset, settings: SamplingConfig, samples: int, limit: int
    ) -> Sampling | None:
        """Sampling from prompts in this process; None where another engine does it."""
        if settings.engine != LOCAL:
            return None
        size, ordered = settings.batch_size, np.sort(column_lengths(prompts, "ids"))
        batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        sizes, widths = np.array([len(batch) for batch in batches]), np.array([batch[-1] for batch in batches])
        return Sampling(section, sizes, widths, samples, self.lengths.within(limit))

    def kept(self, table: datasets.Dataset, rule: SelectionConfig, seed: int) -> np.ndarray:
        """Numbers of as many pairs as the rule keeps, in no order; all where that depends on the margins.

        Args:
            table: The pairs, or the prompts that give a pair each.
            rule: The rule.
            seed: Seed of the draw.
        """
        count, random = len(table), np.random.default_rng(seed)
        anyhow = rule if rule.count_known else SelectionConfig(rule="all")
        pairs = ScoredPairs(
            example_ids=texts([str(number) for number in range(count)]),
            prompt_ids=id_column(table, "prompt_id"),
            margins=random.normal(size=count),
            p=np.ones(count),
            chosen_lengths=np.zeros(count),
            rejected_lengths=np.zeros(count),
        )
        return random.permutation(np.flatnonzero(select(pairs, anyhow, seed).is_kept))

"""What a run will do, stage by stage, from the lengths of its data: steps, packs and tokens.

The stages and their order are those of ``seralign.pipeline.run``, and so are seeds, plans and packs. Three things are
not known yet: how long sampled responses will be (given as ``Lengths``), which pairs a review keeps (as many as it will
keep are drawn at random), and how many prompts will give no pair (none, it is assumed).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import datasets
import numpy as np

from seralign.config import LOCAL, CrossfitConfig, SamplingConfig, SelectionConfig, TrainingConfig
from seralign.data.table import column_lengths
from seralign.objectives import SFT, ObjectiveSum, one
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.crossfit import pair_folds
from seralign.pipeline.data import Tables
from seralign.pipeline.plan.foreseen import (
    Cache,
    Foreseen,
    Lengths,
    TrainingRows,
    foreseen,
    joined,
    made_pairs,
    sampled,
    some_rows,
    table_rows,
)
from seralign.pipeline.run import first_pairs
from seralign.pipeline.training import first_packs
from seralign.rewards.pairing import draw_prompts, mix
from seralign.rewards.responses import plan_scoring
from seralign.rewards.selection import select
from seralign.runs.layout import CROSSFIT, INITIAL_EVALUATION, fold_stage
from seralign.training.plan import Pack, plan_training
from seralign.training.train import heldout_packs


@dataclass(frozen=True)
class Passes:
    """Forward passes without gradients. ``section`` of the configuration bounds them by its ``tokens_per_pack``.

    ``tokens`` [B] of each pass, padding counted; ``longest``: tokens of the largest thing that cannot be divided.
    """

    section: str
    responses: int
    tokens: np.ndarray
    longest: int


@dataclass(frozen=True)
class Steps:
    """Optimizer steps.

    ``tokens`` [B] of each pack, padding counted; ``shared``: tokens saved because a prompt stands once in a pack;
    ``padding``: how many of the tokens are padding.
    """

    section: str
    count: int
    accumulation: int
    tokens: np.ndarray
    longest: int
    shared: int
    padding: int


@dataclass(frozen=True)
class Sampling:
    """Batches of prompts to sample from: ``prompts`` [B] in each and ``widths`` [B] of its longest."""

    section: str
    prompts: np.ndarray
    widths: np.ndarray
    samples: int
    lengths: Lengths


@dataclass(frozen=True)
class StageWork:
    """A stage: what it counts, and what a model does in it. ``loads``: how often one is loaded."""

    name: str
    count: int
    unit: str
    steps: Steps | None = None
    passes: tuple[Passes, ...] = ()
    sampling: Sampling | None = None
    loads: int = 0
    note: str = ""

    @property
    def tokens(self) -> int:
        """Tokens that go through a model, forward passes of references and held-out data counted."""
        total = sum(int(part.tokens.sum()) for part in (*self.passes, *([self.steps] if self.steps else [])))
        made = self.sampling
        if made is None:
            return total
        rows = int(made.prompts.sum()) * made.samples
        return total + int((made.prompts * made.widths).sum()) + rows * made.lengths.mean


def workload(
    loop: Loop, tables: Tables, base: Policy, given: Policy | None, lengths: Lengths, longest: int
) -> list[StageWork]:
    """The stages of a run that has done nothing yet.

    Args:
        loop: The run; it is not touched.
        tables: Its data.
        base: The policy as configured.
        given: The reference, where the configuration names one.
        lengths: Of the responses that will be sampled.
        longest: The longest sequence that the loaded model takes in packed rows.
    """
    return list(_Walk(loop, tables, lengths, longest, Cache()).stages(base, given))


@dataclass(frozen=True)
class _Walk:
    loop: Loop
    tables: Tables
    lengths: Lengths
    longest: int
    cache: Cache

    def stages(self, base: Policy, given: Policy | None) -> list[StageWork]:
        loop, tables, config = self.loop, self.tables, self.loop.config
        found = []
        initial = base
        if config.sft is not None:
            demonstrations = tables.pairs if tables.demonstrations is None else tables.demonstrations
            sft = one("sft", SFT())
            rows = table_rows(demonstrations, reads="first")
            found.append(self.train("sft", "sft", config.sft, sft, rows, base, None))
            initial = replace(base, name="sft", digest="sft")
        reference = initial if given is None else given
        found += [self.evaluate(INITIAL_EVALUATION, initial, reference)]
        walk = self
        if config.crossfit is not None:
            found += self.crossfit(config.crossfit, initial, reference)
            kept = _kept(len(tables.pairs), SelectionConfig(fraction=config.crossfit.keep), loop.seed("crossfit"))
            walk = replace(self, tables=replace(tables, pairs=tables.pairs.select(kept.tolist())))
        policies, references, steps = [initial], [reference], 0
        rows = table_rows(first_pairs(loop, walk.tables), loop.objective.reads)
        for index in range(1, config.rounds + 1):
            start = policies[-1] if config.policy.start == "previous" else initial
            against = policies[-1] if config.reference.update == "each_round" and index > 1 else reference
            own = rows
            if index > 1:
                reward_policies = [policies[-1], references[-1], *([policies[-2], references[-2]] if index > 2 else [])]
                reviewed, own = walk.review(index, rows, reward_policies)
                found += reviewed
            train = self.train(f"round-{index}/train", "training", config.training, loop.objective, own, start, against)
            steps += train.count
            policy = replace(base, name=f"round {index}", digest=train.name)
            found += [train, self.evaluate(f"round-{index}/evaluate", policy, reference)]
            if config.evaluation.token_pairs:
                found.append(walk.tokens(index))
            policies.append(policy)
            references.append(against)
        if config.evaluation.baseline:
            again = replace(config.training, max_steps=steps, epochs=None)
            rows = table_rows(tables.pairs, loop.objective.reads)
            train = self.train("baseline/train", "training", again, loop.objective, rows, initial, reference)
            found.append(train)
            baseline = replace(base, name="baseline", digest=train.name)
            found.append(self.evaluate("baseline/evaluate", baseline, reference))
        return found

    def crossfit(self, config: CrossfitConfig, initial: Policy, reference: Policy) -> list[StageWork]:
        """A training without each fold of the pairs, and their scoring by who has not seen them."""
        loop, pairs, found = self.loop, self.tables.pairs, []
        fold, rows = pair_folds(loop, pairs, config), table_rows(pairs, loop.objective.reads)
        passes: tuple[Passes, ...] = ()
        for number in range(config.folds):
            name, others = fold_stage(number), some_rows(rows, np.flatnonzero(fold != number))
            found.append(self.train(name, "training", loop.config.training, loop.objective, others, initial, reference))
            own = foreseen(pairs.select(np.flatnonzero(fold == number).tolist()))
            passes += self.scores(own, [replace(initial, name=name, digest=name), reference])
        return [*found, StageWork(CROSSFIT, len(pairs), "pairs", passes=passes, loads=len(passes))]

    def review(
        self, index: int, rows: TrainingRows, reward_policies: list[Policy]
    ) -> tuple[list[StageWork], TrainingRows]:
        """The stages before the training of a later round, and what it trains on."""
        loop, pairs, config, name = self.loop, self.tables.pairs, self.loop.config.bootstrap, f"round-{index}"
        both = foreseen(pairs)
        passes = self.scores(both, reward_policies[:2])
        found = [StageWork(f"{name}/score", len(both), "responses", passes=passes, loads=len(passes))]
        kept = _kept(len(pairs), loop.config.selection, loop.seed(name, "select"))
        found.append(StageWork(f"{name}/select", len(kept), "pairs kept", note=_unknown(loop.config.selection)))
        if config is None:
            own, _ = mix(len(kept), 0, len(pairs), 0.0)
            return [*found, _composed(name, own, 0)], some_rows(rows, kept[:own])
        prompts = draw_prompts(self.tables.prompts, config.prompts, loop.seed("prompts", index))
        lengths = self.lengths.within(config.sampling.limit)
        sampling = _sampling("bootstrap", prompts, config.sampling, config.samples, lengths)
        candidates = sampled(f"{name}/sample", prompts, config.samples, lengths.mean)
        found.append(StageWork(f"{name}/sample", len(candidates), "responses", sampling=sampling, loads=1))
        passes = self.scores(candidates, reward_policies)
        found.append(StageWork(f"{name}/bootstrap", len(prompts), "pairs at most", passes=passes, loads=len(passes)))
        made = _kept(len(prompts), config.selection, loop.seed(name, "bootstrap"))
        counts = mix(len(kept), len(made), len(pairs), config.share(index))
        generated = made_pairs(candidates, config.samples, made[: counts[1]])
        return [*found, _composed(name, *counts)], joined(some_rows(rows, kept[: counts[0]]), generated)

    def train(
        self,
        name: str,
        section: str,
        config: TrainingConfig,
        objective: ObjectiveSum,
        rows: TrainingRows,
        start: Policy,
        against: Policy | None,
    ) -> StageWork:
        loop, table = self.loop, self.tables.heldout
        plan = plan_training(rows.sizes, config, loop.seed(name), packed_length=loop.packed_length, section=section)
        held = table_rows(table, objective.reads) if len(table) else None
        held_packs = heldout_packs(table, objective, config, loop.packed_length) if len(table) else []
        passes = []
        if against is not None and objective.uses_reference:
            policy, exact = loop.training_policy(against).key, start.digest == against.digest
            for data, packs in ((rows, first_packs(plan)), (held, held_packs)):
                both = _pair_packs(packs, len(data or ()))
                todo = [] if data is None else self.cache.missing(policy, data.keys, both, exact=exact)
                if data is not None and todo:
                    passes.append(self._forward(section, data, [pack[: len(pack) // 2] for pack in todo]))
        loads = 1 + len(passes)
        if held is not None:
            times = 1 if config.eval_steps is None else math.ceil(plan.steps / config.eval_steps)
            both = _pair_packs(held_packs, len(table))
            before, after = (loop.training_policy(each).key for each in (start, replace(start, digest=name)))
            is_known = objective.compares and not self.cache.missing(before, held.keys, both, exact=True)
            times += not is_known
            if objective.compares:
                self.cache.missing(after, held.keys, both, exact=True)
            passes.append(self._forward(section, held, [pack.rows for pack in held_packs] * times))
        tokens = np.array([rows.tokens(pack.rows, self.longest) for pack in plan.packs])
        apart = np.array([rows.apart(pack.rows) for pack in plan.packs])
        steps = Steps(
            section,
            plan.steps,
            plan.accumulation,
            tokens,
            longest=rows.largest(self.longest),
            shared=int(np.maximum(apart - tokens, 0).sum()),
            padding=int(np.maximum(tokens - apart, 0).sum()),
        )
        return StageWork(name, plan.steps, "steps", steps, tuple(passes), loads=loads, note=f"{len(rows)} rows")

    def evaluate(self, name: str, policy: Policy, reference: Policy) -> StageWork:
        loop, config = self.loop, self.loop.config.evaluation
        prompts = draw_prompts(self.tables.heldout_prompts, config.prompts, loop.seed("evaluation prompts"))
        sampling, passes = None, ()
        if len(prompts):
            lengths = self.lengths.within(loop.config.answer_tokens)
            sampling = _sampling("evaluation", prompts, config.sampling, 1, lengths)
            passes += self._scored(sampled(name, prompts, 1, lengths.mean), [policy, reference])
        if len(self.tables.heldout) and loop.objective.compares:
            table = self.tables.heldout
            packs = heldout_packs(table, loop.objective, loop.config.training, loop.packed_length)
            passes += self.scores(foreseen(table), [policy, reference], _pair_packs(packs, len(table)))
        loads = len(passes) + (sampling is not None)
        return StageWork(name, len(prompts), "answers", passes=passes, sampling=sampling, loads=loads)

    def tokens(self, index: int) -> StageWork:
        """Log-ratios by token of some pairs; offline ones stand for the generated, which are not there yet, and the
        reference is taken to have seen none of them in an earlier round."""
        count = min(self.loop.config.evaluation.token_pairs, len(self.tables.pairs))
        both = foreseen(self.tables.pairs.select(range(count)))
        packs = plan_scoring(both.as_responses(), self.loop.config.scoring.tokens_per_pack, self.loop.packed_length)
        tokens = np.array([both.tokens(pack, self.longest) for pack in packs])
        passes = Passes("scoring", sum(map(len, packs)), tokens, int(both.whole_lengths.max()))
        return StageWork(f"round-{index}/tokens", count, "pairs", passes=(passes, passes), loads=2)

    def scores(
        self, responses: Foreseen, policies: Sequence[Policy], packs: list[np.ndarray] | None = None
    ) -> tuple[Passes, ...]:
        """Forward passes for implicit rewards, under policies, each followed by its reference; in the trainer's packs
        where they are given."""
        policies = policies if self.loop.objective.primary.uses_reference else policies[::2]
        return self._scored(responses, policies, packs)

    def _scored(
        self, responses: Foreseen, policies: Sequence[Policy], given: list[np.ndarray] | None = None
    ) -> tuple[Passes, ...]:
        loop, exact = self.loop, given is not None
        budget, packs = "training", given
        if packs is None:
            budget = "scoring"
            packs = plan_scoring(responses.as_responses(), loop.config.scoring.tokens_per_pack, loop.packed_length)
        found = []
        for policy in policies:
            todo = self.cache.missing(loop.scoring_policy(policy).key, responses.keys, packs, exact=exact)
            if todo:
                tokens = np.array([responses.tokens(pack, self.longest) for pack in todo])
                found.append(Passes(budget, sum(map(len, todo)), tokens, int(responses.whole_lengths.max())))
        return tuple(found)

    def _forward(self, section: str, data: TrainingRows, packs: list[np.ndarray]) -> Passes:
        tokens = np.array([data.tokens(pack, self.longest) for pack in packs])
        responses = sum(int(data.sizes.sequences[pack].sum()) for pack in packs)
        return Passes(section, responses, tokens, data.largest(self.longest))


def _pair_packs(packs: Sequence[Pack], rows: int) -> list[np.ndarray]:
    """Packs of rows as packs of responses: the first ones of a pack's rows, then the second ones."""
    return [np.concatenate([pack.rows, pack.rows + rows]) for pack in packs]


def _sampling(
    section: str, prompts: datasets.Dataset, settings: SamplingConfig, samples: int, lengths: Lengths
) -> Sampling | None:
    """The work of sampling in this process; None where another engine does it."""
    if settings.engine != LOCAL:
        return None
    batch_size = settings.batch_size
    ordered = np.sort(column_lengths(prompts, "ids"))
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    sizes, widths = np.array([len(batch) for batch in batches]), np.array([batch[-1] for batch in batches])
    return Sampling(section, sizes, widths, samples, lengths)


def _kept(count: int, rule: SelectionConfig, seed: int) -> np.ndarray:
    """Numbers of as many of ``count`` pairs as the rule keeps, in no order; all where a threshold decides."""
    anyhow = replace(rule, rule="all", threshold=None) if rule.threshold is not None else rule
    random = np.random.default_rng(seed)
    kept = select([str(number) for number in range(count)], random.normal(size=count), anyhow, seed).kept
    return random.permutation(np.array(kept, dtype=np.int64))


def _composed(name: str, own: int, made: int) -> StageWork:
    return StageWork(f"{name}/compose", own + made, "pairs", note=f"{own} offline, at most {made} generated")


def _unknown(rule: SelectionConfig) -> str:
    return "" if rule.threshold is None else "at most: the margins will tell"

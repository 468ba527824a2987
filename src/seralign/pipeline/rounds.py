"""The stages of one round after the first: review, sample, pair, mix (SeRA, 2410.09362)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seralign import distributed
from seralign.config import BootstrapConfig, SelectionConfig
from seralign.data.table import example_ids, length_difference, pair_labels, response_ids, write_examples
from seralign.data.table import read_table as read_pairs
from seralign.errors import DataError
from seralign.evaluation.metrics import distinct_n, similarity
from seralign.intervals import correlation
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.inputs import FORWARD, SCORING, sampling_keys
from seralign.pipeline.scoring import implicit_scores, read_margins, score_stage, with_prompts
from seralign.progress import say
from seralign.records import OFFLINE
from seralign.rewards.cached_logprobs import Responses
from seralign.rewards.ensemble import ensemble_margin
from seralign.rewards.length_correction import length_slope
from seralign.rewards.pairing import (
    Contrast,
    contrasts,
    generated_pairs,
    mix,
)
from seralign.rewards.selection import KEPT, select
from seralign.runs import StageRecord
from seralign.runs.figures import BootstrapFigures, ComposeFigures, SampleFigures, SelectFigures
from seralign.runs.files import read_table, write_table
from seralign.runs.layout import CANDIDATES, GENERATED, MARGINS, REWARDS, SELECTION, TRAINING
from seralign.sampling import params_of, sample_candidates
from seralign.tables import counted

# Figures of diversity are of so many pairs or responses at least; more would not tell more.
_LOOKED_AT = 1000


@dataclass(frozen=True)
class RewardPolicies:
    """The policies that review a round's data: the last one and the one before it, each with its reference."""

    last: tuple[Policy, Policy]
    before: tuple[Policy, Policy] | None

    def digests(self) -> dict[str, str]:
        """For a stage's inputs."""
        names = {"policy": self.last[0], "policy_reference": self.last[1]}
        if self.before is not None:
            names |= {"policy_before": self.before[0], "policy_before_reference": self.before[1]}
        return {name: policy.digest for name, policy in names.items()}


def review(
    loop: Loop, index: int, reward_policies: RewardPolicies, pairs: datasets.Dataset, pairs_digest: str
) -> StageRecord:
    """Score the offline pairs under the last policy, ensemble with the one before, and select."""
    prefix = f"round-{index}"
    policy, reference = reward_policies.last
    scored = score_stage(
        loop, f"{prefix}/score", policy=policy, reference=reference, pairs=pairs, pairs_digest=pairs_digest
    )
    inputs = {"pairs": pairs_digest, "margins": scored.digest}
    inputs |= loop.settings("scoring.ensemble_weight", "scoring.length_correction", "selection", "seed")
    if reward_policies.before is not None:
        inputs["margins_before"] = loop.run.record(f"round-{index - 1}/score").digest

    def work(folder: Path) -> SelectFigures:
        ids = example_ids(pairs)
        last = read_margins(loop.run.path(f"{prefix}/score", MARGINS), ids)
        before = None
        if reward_policies.before is not None:
            before = read_margins(loop.run.path(f"round-{index - 1}/score", MARGINS), ids)
        longer = length_difference(pairs)
        margins = np.asarray(ensemble_margin(last, before, loop.config.scoring.ensemble_weight))
        p = pair_labels(pairs)
        slope = length_slope(margins, longer, p) if loop.config.scoring.length_correction else 0.0
        margins = margins - slope * longer
        selection = select(ids, margins, loop.config.selection, loop.seed(prefix, "select"))
        if not selection.kept:
            rule = loop.config.selection
            raise DataError(
                f"{prefix}: selection.rule {rule.rule} (threshold {rule.threshold}) keeps none of {len(ids)} pairs; "
                f"their margins lie between {margins.min():.3f} and {margins.max():.3f} nats"
            )
        if distributed.is_main():
            write_table(folder / SELECTION, selection.table() | {"disagreement": _disagreement(last, before)})
        kept = np.array([reason == KEPT for reason in selection.reasons])
        return SelectFigures(
            pairs=len(ids),
            kept=int(kept.sum()),
            margin_mean=float(margins.mean()),
            margin_mean_kept=float(margins[kept].mean()),
            margin_smallest_kept=float(margins[kept].min()),
            length_slope=slope,
            margin_length_correlation=correlation(margins, longer),
            margin_length_correlation_kept=correlation(margins[kept], longer[kept]),
            length_difference=float(longer.mean()),
            length_difference_kept=float(longer[kept].mean()),
            similarity_kept=_similarity(pairs.select(np.flatnonzero(kept).tolist())),
        )

    return loop.stage(f"{prefix}/select", inputs, work)


def sample(
    loop: Loop, index: int, policy: Policy, prompts: datasets.Dataset, pairs_digest: str, config: BootstrapConfig
) -> StageRecord:
    """Let a policy answer the round's prompts, several times each."""
    name = f"round-{index}/sample"
    inputs = {"data": pairs_digest, "policy": policy.digest} | loop.tokenizer_inputs
    drawing = ("bootstrap.prompts", "bootstrap.samples", *sampling_keys("bootstrap"), "seed")
    inputs |= loop.settings(*FORWARD, "scoring.dtype", *drawing)

    def work(folder: Path) -> SampleFigures:
        table = sample_candidates(
            prompts,
            loop.sampler(policy, config.sampling, "bootstrap"),
            params_of(config.sampling, config.samples),
            policy=policy.digest,
            end_tokens=loop.end_tokens,
            seed=loop.seed(name),
            results=loop.results,
            label=f"sampling, {policy.name}",
        )
        if distributed.is_main():
            write_table(folder / CANDIDATES, {column: table[column] for column in table.column_names})
        lengths = pc.list_value_length(table["ids"]).to_numpy()  # pyright: ignore
        finished = table["finished"].to_pylist()
        return SampleFigures(
            sampled_from=policy.name,
            prompts=len(prompts),
            responses=len(table),
            length=float(np.mean(lengths)),
            unfinished=1.0 - float(np.mean(finished)),
            distinct_2=distinct_n(_first_answers(table), 2),
        )

    return loop.stage(name, inputs, work)


def bootstrap(
    loop: Loop,
    index: int,
    reward_policies: RewardPolicies,
    prompts: datasets.Dataset,
    pairs_digest: str,
    selected: StageRecord,
    sampled: StageRecord,
    config: BootstrapConfig,
) -> StageRecord:
    """Pairs from the best and the worst response of each prompt, by the ensembled implicit reward.

    Where the review took from the margins what length explains of them, the rewards lose it too.
    """
    prefix, slope = f"round-{index}", loop.run.read_figures(selected, SelectFigures).length_slope
    inputs = {
        "data": pairs_digest,
        "length_slope": repr(slope),
        "candidates": sampled.digest,
    } | reward_policies.digests()
    inputs |= loop.settings(*SCORING, "objective", "scoring.ensemble_weight", "bootstrap.selection", "seed")

    def work(folder: Path) -> BootstrapFigures:
        table = read_table(loop.run.path(f"{prefix}/sample", CANDIDATES))
        responses = Responses(with_prompts(table, prompts))
        last = implicit_scores(loop, *reward_policies.last, responses).score
        before = (
            None if reward_policies.before is None else implicit_scores(loop, *reward_policies.before, responses).score
        )
        rewards = (
            np.asarray(ensemble_margin(last, before, loop.config.scoring.ensemble_weight)) - slope * responses.lengths
        )
        found, left_out = contrasts(table, rewards)
        if distributed.is_main():
            write_examples(folder / GENERATED, generated_pairs(index, prompts, table, found))
        distributed.barrier()
        pairs = read_pairs(folder / GENERATED)
        margins = np.array([contrast.margin for contrast in found])
        selection = select(example_ids(pairs), margins, config.selection, loop.seed(prefix, "bootstrap"))
        if distributed.is_main():
            write_table(
                folder / REWARDS,
                {"prompt_id": table["prompt_id"], "index": table["index"], "reward": rewards},
            )
            h1, h2 = _margins_of(found, last), None if before is None else _margins_of(found, before)
            write_table(folder / SELECTION, selection.table() | {"disagreement": _disagreement(h1, h2)})
        if not len(pairs):
            why = counted(left_out) or "no prompts"
            say(f"{prefix}: no prompt gave a pair ({why}); this round trains on offline pairs alone")
        longer = length_difference(pairs)
        kept = np.array([reason == KEPT for reason in selection.reasons], dtype=bool)
        return BootstrapFigures(
            pairs=len(pairs),
            kept=int(kept.sum()),
            left_out=dict(left_out),
            margin_mean=float(margins.mean()) if len(pairs) else None,
            length_difference=float(longer.mean()) if len(pairs) else None,
            margin_length_correlation=correlation(margins, longer),
            margin_length_correlation_kept=correlation(margins[kept], longer[kept]),
            similarity_kept=_similarity(pairs.select(np.flatnonzero(kept).tolist())),
        )

    return loop.stage(f"{prefix}/bootstrap", inputs, work)


def compose(
    loop: Loop, index: int, selected: StageRecord, bootstrapped: StageRecord | None, config: BootstrapConfig | None
) -> StageRecord:
    """The pairs that the round trains on, offline and generated; what the mix leaves out is recorded too."""
    prefix = f"round-{index}"
    inputs = {"selected": selected.digest} | loop.settings("selection", "seed")
    if bootstrapped is not None:
        inputs["generated"] = bootstrapped.digest
    if config is not None:
        inputs |= loop.settings("bootstrap.selection", "bootstrap.shares")

    def work(folder: Path) -> ComposeFigures:
        kept = {OFFLINE: _kept(loop.run.path(f"{prefix}/select", SELECTION))}
        if bootstrapped is not None:
            kept[f"generated:{index}"] = _kept(loop.run.path(f"{prefix}/bootstrap", SELECTION))
        share = config.share(index) if config is not None else 0.0
        rules = [loop.config.selection] + ([] if config is None else [config.selection])
        sizes = [len(margins) for margins in kept.values()]
        pairs = loop.run.read_figures(selected, SelectFigures).pairs
        counts = mix(sizes[0], sum(sizes[1:]), pairs, share)
        rows = []
        for (origin, margins), rule, count in zip(kept.items(), rules, counts, strict=False):
            used = _fewer(margins, rule, count, loop.seed(prefix, "compose", origin))
            rows += [(example_id, origin, margin, example_id in used) for example_id, margin in margins.items()]
        if distributed.is_main():
            columns = zip(*rows, strict=True)
            write_table(folder / TRAINING, dict(zip(("example_id", "origin", "margin", "used"), columns, strict=True)))
        own, made = counts
        return ComposeFigures(own, made, made / (own + made), share)

    return loop.stage(f"{prefix}/compose", inputs, work)


def training_pairs(loop: Loop, index: int, pairs: datasets.Dataset, has_generated: bool) -> datasets.Dataset:
    """The composed training data of a round as one table, offline rows first."""
    composed = read_table(loop.run.path(f"round-{index}/compose", TRAINING), ["example_id", "used"]).to_pylist()
    tables = [pairs]
    if has_generated:
        tables.append(read_pairs(loop.run.path(f"round-{index}/bootstrap", GENERATED)))
    wanted = {row["example_id"] for row in composed if row["used"]}
    chosen = []
    for table in tables:
        rows = [row for row, example_id in enumerate(example_ids(table)) if example_id in wanted]
        if rows:
            chosen.append(table.select(rows))
    return datasets.concatenate_datasets(chosen)


def _kept(path: Path) -> dict[str, float]:
    table = read_table(path, ["example_id", "margin", "kept"])
    return {row["example_id"]: row["margin"] for row in table.to_pylist() if row["kept"]}


def _fewer(margins: dict[str, float], rule: SelectionConfig, count: int, seed: int) -> set[str]:
    """``count`` of the kept pairs, by the rule that kept them, so that the mix does not bend the rule."""
    if count in (0, len(margins)):
        return set(margins) if count else set()
    name = {"all": "random", "threshold": "top"}.get(rule.rule, rule.rule)
    narrower = replace(rule, rule=name, fraction=count / len(margins), threshold=None)
    return set(select(list(margins), np.array(list(margins.values())), narrower, seed).kept)


def _disagreement(last: np.ndarray, before: np.ndarray | None) -> pa.Array:
    """|h1 - h2| [N] of the margins under the two policies of the ensemble; null where there is one policy."""
    return pa.nulls(len(last), pa.float64()) if before is None else pa.array(np.abs(last - before))


def _margins_of(found: Sequence[Contrast], rewards: np.ndarray) -> np.ndarray:
    """Margins [N] of contrasts by the rewards of one policy."""
    return np.array([rewards[contrast.best] - rewards[contrast.worst] for contrast in found], dtype=np.float64)


def _similarity(pairs: datasets.Dataset) -> float | None:
    """Mean similarity of chosen and rejected, of at most ``_LOOKED_AT`` pairs spread over the table."""
    some = pairs.select(range(0, len(pairs), max(1, len(pairs) // _LOOKED_AT)))
    sides = zip(response_ids(some, 0), response_ids(some, 1), strict=True)
    found = (similarity(chosen.tolist(), rejected.tolist()) for chosen, rejected in sides)
    values = [value for value in found if value is not None]
    return float(np.mean(values)) if values else None


def _first_answers(candidates: pa.Table) -> list[list[int]]:
    """The first response to each of at most ``_LOOKED_AT`` prompts: as many in every round, so that the share of
    different bigrams can be compared."""
    first = candidates.filter(pc.field("index") == 0)["ids"]
    return first.take(pa.array(range(0, len(first), max(1, len(first) // _LOOKED_AT)))).to_pylist()

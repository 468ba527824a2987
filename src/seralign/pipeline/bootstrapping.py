"""The stage that makes pairs or rankings of a round's candidates, by the policies' own rewards (SeRA, 2410.09362)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import numpy as np
import pyarrow as pa

from seralign import distributed
from seralign.data.table import read_table as read_pairs
from seralign.data.table import write_examples
from seralign.errors import ConfigError
from seralign.intervals import correlation
from seralign.objectives.base import least_responses
from seralign.pipeline.agreement import agreed
from seralign.pipeline.comparing import compare, prompts_by_id
from seralign.pipeline.context import Loop
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.inputs import SCORING
from seralign.pipeline.lineage import Round
from seralign.pipeline.model_rewards import candidate_rewards, model_inputs, model_passes
from seralign.pipeline.querying import queried
from seralign.pipeline.queueing import labelled
from seralign.pipeline.sampling import bootstrap_config, foreseen_candidates, round_prompts
from seralign.pipeline.scoring import implicit_scores, stored_with_prompts
from seralign.pipeline.selecting import disagreement, mean_similarity
from seralign.pipeline.stage import Context
from seralign.progress import say
from seralign.rewards.cached_logprobs import Responses
from seralign.rewards.ensemble import ensemble_margin
from seralign.rewards.length_correction import balancing_slope, slope_within
from seralign.rewards.ordering import Ordering, length_difference, ordering_of
from seralign.rewards.pairing import (
    Contrast,
    contrasts,
    generated_examples,
    judged_contrasts,
    matched_contrasts,
    rankings,
    unranked,
)
from seralign.rewards.scored_pairs import scored_pairs
from seralign.rewards.selection import Selection, select
from seralign.rewards.usable import Usable, usable_responses
from seralign.runs.figures import BootstrapFigures, SelectFigures
from seralign.runs.files import read_stream, write_table
from seralign.runs.layout import (
    BOOTSTRAP,
    CANDIDATES,
    GENERATED,
    REWARDS,
    SAMPLE,
    SCRATCH,
    SELECT,
    SELECTION,
    round_name,
    round_stage,
)
from seralign.tables import counted, quantity

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast

# Names of the reward policies among the stage's inputs, last one first.
_POLICIES = ("policy", "policy_before")


@dataclass(frozen=True)
class Bootstrap:
    """The stage that pairs two responses to each prompt, or ranks all of them, by the ensembled implicit reward or by
    reward models.

    ``scoring.length_correction`` decides how rewards are corrected for length, or which two responses form a pair.
    """

    round: Round

    @property
    def name(self) -> str:
        """``round-2/bootstrap``, ..."""
        return round_stage(self.round.index, BOOTSTRAP)

    def inputs(self, context: Context) -> dict[str, str]:
        """Candidates, reward policies with their references, and how they score and select."""
        index = self.round.index
        inputs = {
            "data": context.reviewed.digest,
            "length_slope": repr(self._offline_slope(context)),
            "candidates": context.run.record(round_stage(index, SAMPLE)).digest,
        }
        for name, one in zip(_POLICIES, self.round.reward_policies, strict=False):
            inputs[name] = context.policy(one.policy).digest
            inputs[f"{name}_reference"] = context.policy(one.reference).digest
        keys = ("objective", "scoring.ensemble_weight", "scoring.length_correction", "scoring.length_band",
                "bootstrap.preferences", "bootstrap.labels", "bootstrap.agreement", "bootstrap.query",
                "bootstrap.selection", "seed")  # fmt: skip
        inputs |= model_inputs(context.loop)
        if bootstrap_config(context).labels == "judge" and context.loop.judge is not None:
            inputs["evaluation.judge"] = context.loop.judge.identity
        return inputs | context.loop.settings(*SCORING, *keys)

    def work(self, context: Context, folder: Path) -> BootstrapFigures:
        """Write the pairs, the rewards of all candidates, and which pairs are kept."""
        loop, config, index = context.loop, bootstrap_config(context), self.round.index
        prompts = round_prompts(context, index)
        candidates = loop.run.path(round_stage(index, SAMPLE), CANDIDATES)
        (folder / SCRATCH).mkdir(exist_ok=True)
        joined = folder / SCRATCH / f"joined-{distributed.rank()}.arrow"
        responses, table = Responses(stored_with_prompts(candidates, prompts, joined)), read_stream(joined)
        policies = [(context.policy(one.policy), context.policy(one.reference)) for one in self.round.reward_policies]
        scores = [implicit_scores(loop, *pair, responses).score for pair in policies]
        # Without reward policies, reward models or the judge alone rank the responses.
        last, before = scores[0] if scores else np.zeros(len(table)), scores[1] if len(scores) > 1 else None
        ensembled = np.asarray(ensemble_margin(last, before, loop.config.scoring.ensemble_weight))
        usable, left_out = usable_responses(table)
        ensembled = candidate_rewards(loop, responses, usable, ensembled)
        slope = self._slope(context, usable, ensembled, responses.lengths)
        rewards = ensembled - slope * responses.lengths
        ranked = bool(scores or loop.reward_models)
        found, without = self._contrasts(loop, usable, rewards, responses.lengths) if ranked else unranked(usable)
        left_out += without
        choose = partial(queried, loop, index, prompts, table, responses, found)
        if config.labels == "queue":
            found, without = labelled(loop, index, folder, prompts, table, rewards, found, lambda: choose()[0])
        else:
            found, without = choose()
        left_out += without
        if config.labels == "judge":
            found, without = self._judged(loop, prompts, table, found)
            left_out += without
        agreement = None
        if config.agreement != "none" and found:
            reference = context.policy(self.round.reward_policies[0].reference)
            corrected = [score - slope * responses.lengths for score in scores]
            found, agreement = agreed(loop, reference, responses, usable, corrected, found)
            say(f"{round_name(index)}: the last two policies agree on rankings of responses at {agreement:.3f}")
        del responses, choose  # the keys and packs of all candidates
        if distributed.is_main():
            made = generated_examples(index, table, found)
            write_examples(folder / GENERATED, made, loop.config.data.keep_columns)
        distributed.barrier()
        pairs = read_pairs(folder / GENERATED)
        margins = np.fromiter((contrast.margin for contrast in found), np.float64, len(found))
        seed = loop.seed(round_name(index), BOOTSTRAP)
        selection = select(scored_pairs(pairs, margins), config.selection, seed)
        if distributed.is_main():
            write_table(
                folder / REWARDS,
                {"prompt_id": table["prompt_id"], "index": table["index"], "reward": rewards},
            )
            ordering = ordering_of(pairs)
            h1 = _margins_of(found, ordering, last)
            h2 = None if before is None else _margins_of(found, ordering, before)
            write_table(folder / SELECTION, selection.table() | {"disagreement": disagreement(h1, h2)})
        if not len(pairs) and not self.round.generates_all:
            why = counted(left_out) or "no prompts"
            say(f"{round_name(index)}: no prompt gave a {config.form} ({why}); this round trains on offline data only")
        figures = pair_figures(pairs, margins if ranked else None, selection, left_out, slope)
        return replace(figures, agreement=agreement)

    def cost(self, forecast: Forecast) -> StageWork:
        """Passes over the candidates under the reward policies and their references."""
        index, config = self.round.index, bootstrap_config(forecast.context)
        candidates = foreseen_candidates(forecast, index)
        passes = forecast.rewards(candidates, self.round.reward_policies)
        passes += model_passes(forecast, candidates) if forecast.loop.reward_models else ()
        if config.agreement != "none" and len(self.round.reward_policies) == 1:
            passes += forecast.logps(candidates, [self.round.reward_policies[0].reference])
        prompts = len(round_prompts(forecast.context, index))
        return StageWork(self.name, prompts, f"{config.form}s at most", passes=passes, loads=len(passes))

    def _contrasts(
        self, loop: Loop, usable: Usable, rewards: np.ndarray, lengths: np.ndarray
    ) -> tuple[Sequence[Contrast], Counter[str]]:
        """What each prompt gives, and counts of the prompts that give nothing."""
        scoring, config = loop.config.scoring, loop.config.bootstrap
        assert config is not None
        if config.form == "ranking":
            least = max(least_responses(term.objective) for term in loop.objective.terms)
            return rankings(usable, rewards, max(least, 2))
        if scoring.length_correction == "matched":
            return matched_contrasts(usable, rewards, lengths, scoring.band)
        return contrasts(usable, rewards)

    def _judged(
        self, loop: Loop, prompts: datasets.Dataset, candidates: pa.Table, found: Sequence[Contrast]
    ) -> tuple[list[Contrast], Counter[str]]:
        """The pairs with the verdicts of the run's judge, which the main process asks.

        Raises:
            ConfigError: requests to the judge failed. A pair without a label would be lost for good.
        """
        p: dict[str, float | None] = {}
        if distributed.is_main():
            texts = candidates["text"]
            first, second = ({one.prompt_id: texts[one.rows[at]].as_py() for one in found} for at in (0, 1))
            verdicts = compare(loop, prompts_by_id(prompts), first, second, f"labels, {round_name(self.round.index)}")
            failed = [verdict.error for verdict in verdicts.values() if verdict.error is not None]
            if failed:
                raise ConfigError(
                    f"bootstrap.labels: the judge failed on {len(failed)} of {len(verdicts)} pairs ({failed[0]}); its "
                    "other verdicts are stored: give the same command again to ask for the rest"
                )
            p = {name: verdict.first_better for name, verdict in verdicts.items()}
        p = distributed.broadcast(p)
        made, left_out = judged_contrasts(found, [p[one.prompt_id] for one in found])
        if (ties := left_out["tie"]) > len(found) / 2:
            say(
                f"warning: {round_name(self.round.index)}: the judge cannot tell the two answers apart in {ties} of "
                f"{quantity(len(found), 'pair')}; a tie is not trained on"
            )
        return made, left_out

    def _slope(self, context: Context, groups: Usable, rewards: np.ndarray, lengths: np.ndarray) -> float:
        """The correction of the candidates' rewards, in nats a token."""
        correction = context.loop.config.scoring.length_correction
        if correction == "within_prompt":
            return slope_within(groups, rewards, lengths)
        if correction == "balanced":
            return balancing_slope(groups, rewards, lengths)
        return self._offline_slope(context)

    def _offline_slope(self, context: Context) -> float:
        """The slope of the offline pairs, for candidates without a slope of their own."""
        if context.loop.config.scoring.length_correction != "offline":
            return 0.0
        return context.run.figures(round_stage(self.round.index, SELECT), SelectFigures).length_slope


def foreseen_made(forecast: Forecast, index: int) -> np.ndarray:
    """As many prompt numbers as a round will keep pairs, in no particular order."""
    prompts = round_prompts(forecast.context, index)
    seed = forecast.loop.seed(round_name(index), BOOTSTRAP)
    return forecast.kept(prompts, bootstrap_config(forecast.context).selection, seed)


def pair_figures(
    pairs: datasets.Dataset,
    margins: np.ndarray | None,
    selection: Selection,
    left_out: Counter[str],
    slope: float = 0.0,
) -> BootstrapFigures:
    """The figures of a round's generated pairs.

    Args:
        pairs: The pairs [N].
        margins: Their margins [N]; None if nothing ranks the responses.
        selection: Which are kept.
        left_out: What gave no pair, by reason.
        slope: Nats that rewards lost for each token.
    """
    longer = length_difference(pairs)
    kept = selection.is_kept
    return BootstrapFigures(
        pairs=len(pairs),
        kept=int(kept.sum()),
        left_out=dict(left_out),
        margin_mean=float(margins.mean()) if margins is not None and len(pairs) else None,
        length_slope=slope,
        length_difference_kept=float(longer[kept].mean()) if kept.any() else None,
        chosen_longer_kept=_share_longer(longer[kept]),
        margin_length_correlation=None if margins is None else correlation(margins, longer),
        similarity_kept=mean_similarity(pairs, np.flatnonzero(kept)),
    )


def _share_longer(longer: np.ndarray) -> float | None:
    """Share of pairs whose chosen response is longer; equal lengths count half."""
    return float((np.sign(longer) + 1).mean() / 2) if len(longer) else None


def _margins_of(found: Sequence[Contrast], ordering: Ordering, rewards: np.ndarray) -> np.ndarray:
    """Margins [N] of contrasts, whose examples have this order, under one policy's rewards of all candidates."""
    count = len(ordering.numbering)
    rows = np.empty(count, dtype=np.int32)
    rows[ordering.numbering.by_row] = np.fromiter((row for contrast in found for row in contrast.rows), np.int32, count)
    return ordering.margin(rewards[rows])

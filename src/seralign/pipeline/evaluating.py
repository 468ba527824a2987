"""The evaluation stage: a policy's answers to held-out prompts, and its ranking of held-out pairs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow as pa

from seralign import distributed
from seralign.data.table_columns import numbered_responses, pair_labels
from seralign.evaluation.scores import StoredScorer
from seralign.evaluation.summary import summarise
from seralign.evaluation.win_rates import win_rate
from seralign.intervals import Interval
from seralign.pipeline.comparing import answers_of, compare, prompts_by_id
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.forecast.foreseen import foreseen, sampled
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.heldout import have_margins, heldout_scores
from seralign.pipeline.inputs import SCORING, sampling_keys
from seralign.pipeline.lineage import REFERENCE, RewardPolicy
from seralign.pipeline.scoring import policy_logps, with_prompts
from seralign.pipeline.stage import Context
from seralign.rewards.cached_logprobs import Responses
from seralign.rewards.pairing import draw_prompts
from seralign.runs.figures import EvaluateFigures
from seralign.runs.files import write_table
from seralign.runs.layout import SAMPLES, VERDICTS, evaluation
from seralign.sampling import candidates_of, params_of, sample_candidates
from seralign.servers.usage import Usage
from seralign.training.plan import response_packs
from seralign.training.train import heldout_packs

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast

_USAGE = pa.struct(
    [(field.name, pa.float64() if field.name == "cost" else pa.int64()) for field in dataclasses.fields(Usage)]
)
_VERDICTS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("rival", pa.string()),
        ("first_better", pa.float64()),
        ("scores", pa.list_(pa.float64())),
        ("explanation", pa.string()),
        ("error", pa.string()),
        ("orders", pa.list_(pa.float64())),
        ("unreadable", pa.string()),
        ("members", pa.list_(pa.float64())),
        ("usage", _USAGE),
    ]
)


@dataclass(frozen=True)
class Evaluation:
    """The stage that measures a policy: its answers to held-out prompts, and its margins on held-out pairs.

    KL and implicit rewards use the run's reference, the same for all policies.

    Args:
        role: Role of the policy.
        rivals: Policies to compare the answers with, by role.
    """

    role: str
    rivals: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``initial/evaluate``, ``round-1/evaluate``, ..."""
        return evaluation(self.role)

    def inputs(self, context: Context) -> dict[str, str]:
        """Data, policy and reference, everything that samples, scores and judges, and the rivals' answers."""
        loop = context.loop
        inputs = {
            "data": context.tables.digest,
            "policy": context.policy(self.role).digest,
            "reference": context.policy(REFERENCE).digest,
        }
        inputs |= loop.settings(*SCORING, "objective", "seed", "evaluation.prompts", "training.tokens_per_pack")
        inputs |= loop.settings(*sampling_keys("evaluation"))
        inputs |= loop.tokenizer_inputs
        if loop.scorer is not None:
            inputs[loop.scorer.key] = loop.scorer.digest
        if loop.judge is not None and loop.config.evaluation.judge is not None:
            inputs["evaluation.judge"] = loop.judge.identity
        stages = self._rivals(context)
        return inputs | {f"answers of {rival}": loop.run.record(stage).digest for rival, stage in stages.items()}

    def work(self, context: Context, folder: Path) -> EvaluateFigures:
        """Sample answers, score and compare them, and measure the policy."""
        loop, prompts, heldout = context.loop, evaluation_prompts(context), context.tables.heldout
        policy, reference = context.policy(self.role), context.policy(REFERENCE)
        sampling = loop.config.evaluation.sampling
        samples = _sample(loop, policy, context.before(self.role), prompts)
        candidates = candidates_of(samples)
        rewards = _score(loop, samples, prompts)
        kl = None
        if len(candidates):
            table = with_prompts(samples, prompts)
            responses = Responses(table)
            own = policy_logps(loop, policy, responses)
            columns = {column: samples[column] for column in samples.column_names}
            columns |= {"prompt": table["prompt"][:], "logp": own}
            ratios = own - policy_logps(loop, reference, responses)
            columns["log_ratio"] = ratios
            if rewards is not None:
                columns["score"] = rewards
            if distributed.is_main():
                write_table(folder / SAMPLES, columns)
            kl = ratios if sampling.temperature == 1.0 and sampling.top_p == 1.0 else None
        rates = _win_rates(loop, policy, samples, prompts, self._rivals(context), folder)
        margins, differences = None, None
        if have_margins(heldout, loop.objective):
            scores = heldout_scores(loop, policy, reference, heldout)
            margins, differences = scores.margin, scores.longer
        return summarise(
            policy.name,
            [candidate.ids for candidate in candidates],
            [candidate.finished for candidate in candidates],
            scores=rewards,
            win_rates=rates,
            log_ratios=kl,
            margins=margins,
            prompt_ids=heldout["prompt_id"][:] if margins is not None else None,
            length_differences=differences,
            labels=pair_labels(heldout) if margins is not None else None,
            beta=loop.objective.primary.beta,
        )

    def cost(self, forecast: Forecast) -> StageWork:
        """Sampling, and passes over answers and held-out pairs under policy and reference."""
        config, context = forecast.config, forecast.context
        prompts, heldout = evaluation_prompts(context), context.tables.heldout
        sampling, passes = None, ()
        if len(prompts):
            sampling = forecast.sampling("evaluation", prompts, config.evaluation.sampling, 1, config.answer_tokens)
            length = forecast.lengths.within(config.answer_tokens).mean
            passes += forecast.logps(sampled(self.name, prompts, 1, length), [self.role, REFERENCE])
        if have_margins(heldout, forecast.loop.objective):
            policies = [RewardPolicy(self.role, REFERENCE)]
            packs = heldout_packs(heldout, forecast.loop.objective, config.training, forecast.loop.packed_length)
            both = response_packs(packs, numbered_responses(heldout))
            passes += forecast.rewards(foreseen(heldout), policies, both)
        loads = len(passes) + (sampling is not None)
        return StageWork(self.name, len(prompts), "answers", passes=passes, sampling=sampling, loads=loads)

    def _rivals(self, context: Context) -> dict[str, str]:
        """The evaluations of the rivals by name; empty if nothing is compared."""
        if context.loop.judge is None or not len(evaluation_prompts(context)):
            return {}
        return {context.policy(rival).name: evaluation(rival) for rival in self.rivals}


def evaluation_prompts(context: Context) -> datasets.Dataset:
    """Held-out prompts to answer, the same for all policies."""
    count = context.config.evaluation.prompts
    return draw_prompts(context.tables.heldout_prompts, count, context.loop.seed("evaluation prompts"))


def _sample(loop: Loop, policy: Policy, before: Policy | None, prompts: datasets.Dataset) -> pa.Table:
    sampling = loop.config.evaluation.sampling
    return sample_candidates(
        prompts,
        loop.sampler(policy, sampling, "evaluation", before),
        params_of(sampling, 1, loop.config.answer_tokens),
        policy=policy.digest,
        end_tokens=loop.end_tokens,
        seed=loop.seed("evaluate"),
        results=loop.evaluated,
        label=f"answers, {policy.name}",
    )


def _score(loop: Loop, samples: pa.Table, prompts: datasets.Dataset) -> np.ndarray | None:
    if loop.scorer is None or not len(samples):
        return None
    texts = dict(zip(prompts["prompt_id"], prompts["text"], strict=True))
    asked = [texts[prompt_id] for prompt_id in samples["prompt_id"].to_pylist()]
    # A scorer may cost money or use a GPU, so only one process calls it.
    scorer, answers = StoredScorer(loop.scorer, loop.evaluated), samples["text"].to_pylist()
    return distributed.broadcast(scorer(asked, answers) if distributed.is_main() else None)


def _win_rates(
    loop: Loop, policy: Policy, samples: pa.Table, prompts: datasets.Dataset, rivals: dict[str, str], folder: Path
) -> dict[str, Interval]:
    """Win rates by rival; writes every verdict to the folder. Only one process asks the judge."""
    if not distributed.is_main() or loop.judge is None or not rivals or not len(samples):
        return distributed.broadcast({})
    answers = dict(zip(samples["prompt_id"].to_pylist(), samples["text"].to_pylist(), strict=True))
    rates, rows = dict[str, Interval](), list[dict[str, Any]]()
    for rival, stage in rivals.items():
        theirs = answers_of(loop, stage)
        verdicts = compare(loop, prompts_by_id(prompts), answers, theirs, f"{policy.name} against {rival}")
        rate = win_rate(list(verdicts.values()))
        if rate is not None:
            rates[rival] = rate
        rows += [{"prompt_id": name, "rival": rival, **verdict.to_json()} for name, verdict in verdicts.items()]
    columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in _VERDICTS}
    write_table(folder / VERDICTS, columns)
    return distributed.broadcast(rates)

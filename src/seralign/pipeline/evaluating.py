"""The evaluation stage: what a policy answers to held-out prompts, and how it ranks held-out pairs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from seralign import distributed
from seralign.evaluation.scores import StoredScorer
from seralign.evaluation.summary import summarise
from seralign.evaluation.win_rates import win_rate
from seralign.intervals import Interval
from seralign.pipeline.comparing import answers_of, compare, prompts_by_id
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.heldout import heldout_scores
from seralign.pipeline.inputs import SCORING, sampling_keys
from seralign.pipeline.scoring import policy_logps, with_prompts
from seralign.rewards.cached_logprobs import Responses
from seralign.runs import StageRecord
from seralign.runs.figures import EvaluateFigures
from seralign.runs.files import write_table
from seralign.runs.layout import SAMPLES, VERDICTS
from seralign.sampling import candidates_of, params_of, sample_candidates

_VERDICTS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("rival", pa.string()),
        ("first_better", pa.float64()),
        ("scores", pa.list_(pa.float64())),
        ("explanation", pa.string()),
        ("error", pa.string()),
    ]
)


def evaluate_stage(
    loop: Loop,
    name: str,
    *,
    policy: Policy,
    reference: Policy,
    prompts: datasets.Dataset,
    heldout: datasets.Dataset,
    data_digest: str,
    rivals: dict[str, str],
) -> StageRecord:
    """Sample answers, score them, and measure the policy.

    Args:
        loop: The run.
        name: Of the stage.
        policy: Whom to evaluate.
        reference: The policy that KL and implicit rewards are measured against, the same for all policies.
        prompts: Held-out prompts, the same for all policies.
        heldout: Held-out pairs.
        data_digest: Identity of both.
        rivals: Name to evaluation stage of the policies to win against.
    """
    config = loop.config.evaluation
    inputs = {"data": data_digest, "policy": policy.digest, "reference": reference.digest}
    inputs |= loop.settings(*SCORING, "objective", "seed", "evaluation.prompts", "training.tokens_per_pack")
    inputs |= loop.settings(*sampling_keys("evaluation"))
    inputs |= loop.tokenizer_inputs
    if loop.scorer is not None:
        inputs[loop.scorer.key] = loop.scorer.digest
    if loop.judge is not None and config.judge is not None:
        inputs["evaluation.judge"] = loop.judge.identity
    inputs |= {f"answers of {rival}": loop.run.record(stage).digest for rival, stage in rivals.items()}

    def work(folder: Path) -> EvaluateFigures:
        samples = _sample(loop, policy, prompts)
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
            kl = ratios if config.sampling.temperature == 1.0 and config.sampling.top_p == 1.0 else None
        rates = _win_rates(loop, policy, samples, prompts, rivals, folder)
        margins, differences = None, None
        if len(heldout) and loop.objective.compares:
            scores = heldout_scores(loop, policy, reference, heldout)
            margins, differences = scores.margin, scores.chosen_length - scores.rejected_length
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
        )

    return loop.stage(name, inputs, work)


def _sample(loop: Loop, policy: Policy, prompts: datasets.Dataset) -> pa.Table:
    sampling = loop.config.evaluation.sampling
    return sample_candidates(
        prompts,
        loop.sampler(policy, sampling, "evaluation"),
        params_of(sampling, 1, loop.config.answer_tokens),
        policy=policy.digest,
        end_tokens=loop.end_tokens,
        seed=loop.seed("evaluate"),
        results=loop.results,
        label=f"answers, {policy.name}",
    )


def _score(loop: Loop, samples: pa.Table, prompts: datasets.Dataset) -> np.ndarray | None:
    if loop.scorer is None or not len(samples):
        return None
    texts = dict(zip(prompts["prompt_id"], prompts["text"], strict=True))
    asked = [texts[prompt_id] for prompt_id in samples["prompt_id"].to_pylist()]
    # A scorer may cost money or a GPU: one process asks it.
    scorer, answers = StoredScorer(loop.scorer, loop.results), samples["text"].to_pylist()
    return distributed.broadcast(scorer(asked, answers) if distributed.is_main() else None)


def _win_rates(
    loop: Loop, policy: Policy, samples: pa.Table, prompts: datasets.Dataset, rivals: dict[str, str], folder: Path
) -> dict[str, Interval]:
    """Win rates by rival; every verdict is written to the folder. One process asks the judge."""
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
        rows += [{"prompt_id": name, "rival": rival, **asdict(verdict)} for name, verdict in verdicts.items()]
    columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in _VERDICTS}
    write_table(folder / VERDICTS, columns)
    return distributed.broadcast(rates)

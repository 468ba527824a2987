"""The evaluation stage: what a policy answers to held-out prompts, and how it ranks held-out pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from seralign import distributed
from seralign.bootstrapping import candidates_of, sample_candidates
from seralign.evaluation.summary import summarise
from seralign.files import read_table, write_table
from seralign.loop.context import Loop, Policy
from seralign.loop.inputs import SCORING
from seralign.loop.scoring import pair_scores, policy_logps, with_prompts
from seralign.policy.sampling import SamplingParams
from seralign.scoring import Responses
from seralign.store import SCRATCH, StageRecord

SAMPLES = "samples.parquet"


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
    inputs["evaluation.scorer"] = loop.scorer.digest if loop.scorer is not None else ""
    inputs |= loop.settings(*SCORING, "objective", "seed", "evaluation.prompts", "evaluation.sampling")
    inputs |= loop.tokenizer_inputs
    inputs |= {f"answers of {rival}": loop.run.record(stage).digest for rival, stage in rivals.items()}

    def work(folder: Path) -> dict[str, Any]:
        samples = _sample(loop, name, policy, prompts, folder)
        candidates = candidates_of(samples)
        rewards = _score(loop, samples, prompts)
        kl = None
        if len(candidates):
            table = with_prompts(samples, prompts)
            responses = Responses(table, ("ids",))
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
        margins, differences = None, None
        if len(heldout) and loop.objective.uses_rejected:
            scores = pair_scores(loop, policy, reference, heldout)
            margins, differences = scores.margin, scores.chosen_length - scores.rejected_length
        figures = summarise(
            policy.name,
            [candidate.ids for candidate in candidates],
            [candidate.finished for candidate in candidates],
            scores=rewards,
            rivals={rival: _scores(loop, stage) for rival, stage in rivals.items()} if rewards is not None else None,
            log_ratios=kl,
            margins=margins,
            prompt_ids=heldout["prompt_id"][:] if margins is not None else None,
            length_differences=differences,
        )
        return figures.to_dict()

    return loop.stage(name, inputs, work)


def _sample(loop: Loop, name: str, policy: Policy, prompts: datasets.Dataset, folder: Path) -> pa.Table:
    sampling = loop.config.evaluation.sampling
    return sample_candidates(
        prompts,
        loop.sampler(policy),
        loop.tokenizer,
        SamplingParams(1, sampling.temperature, sampling.top_p, loop.config.answer_tokens),
        loop.end_tokens,
        batch_size=sampling.batch_size,
        seed=loop.seed("evaluate"),
        parts=folder / SCRATCH,
        label=f"answers, {policy.name}",
    )


def _score(loop: Loop, samples: pa.Table, prompts: datasets.Dataset) -> np.ndarray | None:
    if loop.scorer is None or not len(samples):
        return None
    texts = dict(zip(prompts["prompt_id"], prompts["text"], strict=True))
    asked = [texts[prompt_id] for prompt_id in samples["prompt_id"].to_pylist()]
    # A scorer may cost money or a GPU: one process asks it.
    answers = samples["text"].to_pylist()
    return distributed.broadcast(loop.scorer(asked, answers) if distributed.is_main() else None)


def _scores(loop: Loop, stage: str) -> np.ndarray:
    return read_table(loop.run.path(stage, SAMPLES), ["score"])["score"].to_numpy()

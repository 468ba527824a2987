"""Measures a policy: gold reward, KL, length and variety of its answers, and how it ranks pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import datasets
import numpy as np
import pyarrow as pa

from seralign.errors import ConfigError
from seralign.evaluation.label_quality import margin_figures
from seralign.evaluation.metrics import distinct_n, margin_accuracy, repetition
from seralign.laboratory.world import Truth
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.scoring import implicit_scores, pair_scores, with_prompts
from seralign.records import content_id
from seralign.rewards.ordering import ordering_of
from seralign.rewards.responses import Responses
from seralign.rewards.reward_model import RewardModel
from seralign.sampling import candidates_of, params_of, sample_candidates
from seralign.studies.cells import Ask
from seralign.studies.figures import AnswerFigures, PolicyFigures, RankingFigures, SplitFigures
from seralign.studies.kl import best_of_kl, response_kls


@dataclass(frozen=True)
class Exam:
    """What every policy of a world is measured on: prompts by split, and pairs with their hidden truth."""

    prompts: dict[str, datasets.Dataset]
    pairs: datasets.Dataset
    truth: Truth


@dataclass(frozen=True)
class Measured:
    """A policy's figures, and the gold rewards [P] of its answers by split and temperature."""

    figures: PolicyFigures
    gold: dict[tuple[str, float], np.ndarray]


def measure(
    loop: Loop,
    exam: Exam,
    ask: Ask,
    policy: Policy,
    supervised: Policy,
    temperatures: Sequence[float],
    chooser: RewardModel | None = None,
) -> Measured:
    """Sample answers to all prompts at all temperatures, score them, and measure.

    All policies of a world answer the same prompts from the same random numbers.

    Args:
        loop: The run that made the policy; its scorer is the world's gold reward.
        exam: Prompts and pairs.
        ask: With more than one draw, the supervised policy samples so many answers, and the policy chooses one.
        policy: The policy to measure.
        supervised: The policy that the KL is to.
        temperatures: Of sampling; the first is 1.
        chooser: Chooses among the draws, and ranks the pairs, in place of the implicit reward of ``policy``.
    """
    assert loop.scorer is not None
    gold: dict[tuple[str, float], np.ndarray] = {}
    splits: dict[str, SplitFigures] = {}
    for split, prompts in exam.prompts.items():
        answers, kl = {}, 0.0
        for temperature in temperatures:
            found = _answers(loop, ask, policy, supervised, prompts, split, temperature, chooser)
            asked = with_prompts(found, prompts)
            scores = loop.scorer(asked["prompt"][:], found["text"].to_pylist())
            gold[split, temperature] = scores
            answers[str(temperature)] = _described(found, float(scores.mean()))
            if temperature == 1.0:
                kl = _kl(loop, ask, policy, supervised, asked)
        splits[split] = SplitFigures(kl, answers)
    names = {split: content_id(prompts["prompt_id"][:]) for split, prompts in exam.prompts.items()}
    ranking = _ranking(loop, exam, policy, supervised, chooser)
    return Measured(PolicyFigures(**splits, ranking=ranking, prompts=names), gold)


def _answers(
    loop: Loop,
    ask: Ask,
    policy: Policy,
    supervised: Policy,
    prompts: datasets.Dataset,
    split: str,
    temperature: float,
    chooser: RewardModel | None,
) -> pa.Table:
    """One answer a prompt, in the order of the prompts."""
    sampler, usual = policy if ask.draws == 1 else supervised, loop.config.evaluation.sampling
    size = max(1, usual.batch_size // ask.draws)
    settings = replace(usual, temperature=temperature, top_p=1.0, batch_size=size)
    found = sample_candidates(
        prompts,
        loop.sampler(sampler, settings, "evaluation"),
        params_of(settings, ask.draws, loop.config.answer_tokens),
        policy=sampler.digest,
        end_tokens=loop.end_tokens,
        seed=loop.seed("study", split),
        results=loop.results,
        label=f"answers, {policy.name}, {split}, temperature {temperature}",
    )
    if len(found) < len(prompts) * ask.draws:
        missing = len(prompts) * ask.draws - len(found)
        raise ConfigError(f"evaluation.engine: {missing} responses do not fit the tokenizer; a study needs all of them")
    if ask.draws == 1:
        return found
    responses = Responses(with_prompts(found, prompts))
    if chooser is not None:
        rewards = _rewards(loop, chooser, responses)
    else:
        rewards = implicit_scores(loop, policy, supervised, responses).score
    return found.take(pa.array(best_rows(rewards, ask.draws)))


def _rewards(loop: Loop, chooser: RewardModel, responses: Responses) -> np.ndarray:
    """Rewards [N] by a reward model."""
    return chooser.rewards(responses, loop.cache, tokens_per_pack=loop.config.scoring.tokens_per_pack)


def best_rows(rewards: np.ndarray, draws: int) -> np.ndarray:
    """Rows [N] of the answers with the largest reward, of ``draws`` neighbouring rows each; ties go to the first."""
    return np.arange(0, len(rewards), draws) + rewards.reshape(-1, draws).argmax(axis=1)


def _described(answers: pa.Table, gold: float) -> AnswerFigures:
    candidates = candidates_of(answers)
    ids = [candidate.ids for candidate in candidates]
    return AnswerFigures(
        gold=gold,
        length=float(np.mean([len(answer) for answer in ids])),
        distinct_2=distinct_n(ids, 2),
        repetition=repetition(ids),
        unfinished=1.0 - float(np.mean([candidate.finished for candidate in candidates])),
    )


def _kl(loop: Loop, ask: Ask, policy: Policy, supervised: Policy, answers: datasets.Dataset) -> float:
    if ask.draws > 1:
        return best_of_kl(ask.draws)
    if policy.digest == supervised.digest:
        return 0.0
    sequences = list(zip(answers["prompt_ids"][:], answers["ids"][:], strict=True))
    own, other = (loop.load(each, loop.scoring_policy(each).weights).eval() for each in (policy, supervised))
    return float(response_kls(own, other, sequences).mean())


def _ranking(loop: Loop, exam: Exam, policy: Policy, supervised: Policy, chooser: RewardModel | None) -> RankingFigures:
    """How an implicit reward or a reward model orders the test prompts' pairs: against labels, gold and length."""
    if chooser is None:
        scores = pair_scores(loop, policy, supervised, exam.pairs)
        margin, longer = scores.margin, scores.longer
    else:
        responses, ordering = Responses(exam.pairs), ordering_of(exam.pairs)
        margin, longer = (ordering.margin(each) for each in (_rewards(loop, chooser, responses), responses.lengths))
    figures = margin_figures(margin, exam.truth.gold_difference, longer, exam.truth.flipped)
    return RankingFigures(margin_accuracy(margin), float(margin.mean()), figures)

"""The work of each stage of a run in rows and tokens, from the sizes of its data.

The stages are those of the run (``seralign.pipeline.schedule``). Unlike ``seralign plan`` without ``--gpu``, which
reads and packs the data, all rows are taken to be of mean length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from seralign.config import RunConfig, TrainingConfig
from seralign.evaluation.reward_scorer import PREFIX
from seralign.pipeline.bootstrapping import Bootstrap
from seralign.pipeline.crossfit import Crossfit
from seralign.pipeline.evaluating import Evaluation
from seralign.pipeline.evaluating_rewards import RewardEvaluation
from seralign.pipeline.lineage import INITIAL, REFERENCE
from seralign.pipeline.projection.counts import (
    epochs_of,
    heldout_pairs,
    prompt_count,
    reviewed,
    training_rows,
    training_steps,
)
from seralign.pipeline.projection.data import DataSizes
from seralign.pipeline.projection.parts import Part, Passes, Sampling
from seralign.pipeline.replaying import GeneratedPairs
from seralign.pipeline.rlhf import RewardTraining
from seralign.pipeline.rows import WithDemonstrations
from seralign.pipeline.sampling import Sample
from seralign.pipeline.schedule import later
from seralign.pipeline.scoring import Score
from seralign.pipeline.selecting import Select
from seralign.pipeline.stage import Context, Stage
from seralign.pipeline.tokens import Tokens
from seralign.pipeline.training import Training
from seralign.rlhf.arguments import plan_batch
from seralign.runs.layout import AVERAGE, part_of


def run_work(config: RunConfig, data: DataSizes) -> list[Part]:
    """The work of a run, in the order in which it is done."""
    steps: dict[str, int] = {}
    found: list[Part] = []
    for stage in later(config):
        found += _parts(stage, config, data, steps)
    return [part for part in found if part.work.total]


def _parts(stage: Stage[Context], config: RunConfig, data: DataSizes, steps: dict[str, int]) -> Iterator[Part]:
    # Each is taken to be as large as the policy.
    uses, models = config.objective.uses_reference, len(config.scoring.reward_models)
    match stage:
        case Training():
            yield from _training(stage, config, data, steps)
        case RewardTraining():
            yield from _reward_training(stage, config, data, steps)
        case Evaluation():
            yield from _evaluation(stage, config, data)
        case Crossfit():
            # The trainings of the copies have scored all pairs under the reference.
            yield Part(stage.name, "scoring", _pairs(data, data.pairs, config.scoring.tokens_per_pack))
        case Score():
            yield Part(stage.name, "scoring", _pairs(data, reviewed(config, data), config.scoring.tokens_per_pack))
        case Select() if models:
            rows = models * reviewed(config, data)
            yield Part(stage.name, "scoring", _pairs(data, rows, config.scoring.tokens_per_pack))
        case RewardEvaluation():
            yield Part(stage.name, "evaluation", _pairs(data, data.heldout, config.scoring.tokens_per_pack))
        case Sample():
            bootstrap = config.bootstrap
            assert bootstrap is not None
            limit = bootstrap.sampling.limit
            response = min(data.response_tokens, limit)
            prompts, given = prompt_count(config, data), data.prompt_tokens
            if bootstrap.method == "sapo":
                # A segment begins anywhere in the response.
                given += max(0, data.response_tokens - response) // 2
            work = Sampling(prompts, bootstrap.samples, bootstrap.sampling.batch_size, given, response, limit)
            yield Part(stage.name, "sampling", work)
        case Bootstrap():
            bootstrap = config.bootstrap
            assert bootstrap is not None
            policies = len(stage.round.reward_policies)
            references = len({each.reference for each in stage.round.reward_policies}) if uses else 0
            response = min(data.response_tokens, bootstrap.sampling.limit)
            rows = prompt_count(config, data) * (policies + references + models)
            tokens = data.prompt_tokens + bootstrap.samples * response
            budget = config.scoring.tokens_per_pack
            longest, answers = data.prompt_tokens + response, bootstrap.samples * response
            yield Part(stage.name, "rescoring", Passes(rows, tokens, longest, answers, budget))
        case Tokens():
            there = prompt_count(config, data) if config.generates_all else reviewed(config, data)
            rows = 2 * min(config.evaluation.token_pairs, there)
            yield Part(stage.name, "evaluation", _pairs(data, rows, config.scoring.tokens_per_pack))
        case _:
            return


def _training(stage: Training, config: RunConfig, data: DataSizes, steps: dict[str, int]) -> Iterator[Part]:
    supervised = stage.section == "sft"
    settings = config.sft if supervised else config.training
    assert settings is not None
    rows, own = training_rows(stage.rows, config, data), stage.rows
    count = sum(steps[name] for name in stage.as_long_as) or training_steps(settings, rows)
    steps[stage.name] = count
    seen = float(count * settings.batch_size)
    if not stage.as_long_as:
        seen = min(seen, rows * epochs_of(settings))
    alone = 1.0 if supervised or not config.objective.compares else 0.0
    if isinstance(own, WithDemonstrations):
        alone, own = data.demonstrations / rows, own.rows
    first = stage.reference in (stage.start, REFERENCE) and stage.start in (stage.reference, INITIAL)
    first |= isinstance(own, GeneratedPairs)
    if first and config.objective.uses_reference:
        # Otherwise the cache has them: scoring and rescoring have been there before.
        yield Part(stage.name, "reference scoring", _row(data, min(rows, seen), settings, alone))
    yield Part(stage.name, "training", _row(data, seen, settings, alone, count))
    times = 1 if settings.eval_steps is None else math.ceil(count / settings.eval_steps)
    held = heldout_pairs(config, data)
    if config.objective.uses_reference and part_of(stage.reference or "") == AVERAGE:
        # An average has scored nothing before.
        yield Part(stage.name, "reference scoring", _row(data, held, settings, float(alone == 1.0)))
    if alone < 1.0:
        yield Part(stage.name, "evaluation", _row(data, held * times, settings, 0.0))
        return
    whole, rows = data.prompt_tokens + data.response_tokens, held * (times + 1)
    yield Part(stage.name, "evaluation", Passes(rows, whole, whole, data.response_tokens, settings.tokens_per_pack))


def _reward_training(
    stage: RewardTraining, config: RunConfig, data: DataSizes, steps: dict[str, int]
) -> Iterator[Part]:
    """A training on sampled responses: sampling, passes of the reference and of reward models, and steps."""
    rlhf, settings = config.rlhf, config.training
    assert rlhf is not None
    batch = plan_batch(rlhf, settings, data.prompts)
    steps[stage.name] = batch.steps
    prompts, samples = batch.steps * settings.batch_size, rlhf.responses
    response = min(data.response_tokens, rlhf.limit)
    whole, rows = data.prompt_tokens + response, float(prompts * samples)
    together = settings.batch_size if rlhf.samples_whole_steps else batch.prompts
    rewards, has_reference = sum(spec.startswith(PREFIX) for spec in rlhf.scorers.values()), rlhf.kl_coefficient > 0
    scored = rewards + has_reference
    # An adapter is switched off for the reference. PPO's value model has gradients and moments.
    adapted = config.policy.lora is not None and rlhf.samples_whole_steps
    held = rewards + (has_reference and not adapted) + 4 * (rlhf.method == "ppo")
    yield Part(
        stage.name,
        "sampling",
        Sampling(prompts, samples, together, data.prompt_tokens, response, rlhf.limit),
        held,
    )
    # A pass is padded to the longest response that may be in it.
    budget = batch.prompts * samples * (data.prompt_tokens + rlhf.limit)
    yield Part(stage.name, "reference scoring", Passes(rows * scored, whole, whole, response, budget), held)
    own = Passes(
        rows * rlhf.passes_per_step,
        whole,
        whole,
        response,
        budget,
        steps=batch.steps * rlhf.updates_per_step,
        batch=settings.batch_size * samples,
        checkpointing=settings.gradient_checkpointing,
    )
    yield Part(stage.name, "training", own, held)


def _evaluation(stage: Evaluation, config: RunConfig, data: DataSizes) -> Iterator[Part]:
    limit = config.answer_tokens
    prompts = min(config.evaluation.prompts, data.heldout)
    response = min(data.response_tokens, limit)
    yield Part(
        stage.name,
        "evaluation",
        Sampling(prompts, 1, config.evaluation.sampling.batch_size, data.prompt_tokens, response, limit),
    )
    whole = data.prompt_tokens + response
    policies = 1 if stage.role == INITIAL else 2
    passes = Passes(prompts * policies, whole, whole, response, config.scoring.tokens_per_pack)
    yield Part(stage.name, "evaluation", passes)
    if stage.role == INITIAL and config.objective.compares:
        held = heldout_pairs(config, data)
        yield Part(stage.name, "evaluation", _pairs(data, held, config.scoring.tokens_per_pack))


def _pairs(data: DataSizes, rows: float, budget: int) -> Passes:
    responses = 2 * data.response_tokens
    longest = data.prompt_tokens + data.response_tokens
    return Passes(rows, data.prompt_tokens + responses, longest, responses, budget)


def _row(data: DataSizes, rows: float, settings: TrainingConfig, alone: float, steps: int = 0) -> Passes:
    """Passes over rows of which a share, ``alone``, are demonstrations and the others pairs."""
    more = {"steps": steps, "batch": settings.batch_size, "checkpointing": settings.gradient_checkpointing}
    whole, budget = data.demonstration_tokens, settings.tokens_per_pack
    shown = Passes(rows, whole, whole, min(data.response_tokens, whole), budget, **more)
    pairs = _pairs(data, rows, budget)
    if alone == 1.0:
        return shown
    tokens = round(alone * shown.tokens + (1 - alone) * pairs.tokens)
    responses = round(alone * shown.responses + (1 - alone) * pairs.responses)
    longest = max(shown.longest, pairs.longest) if alone else pairs.longest
    return Passes(rows, tokens, longest, responses, budget, **more)

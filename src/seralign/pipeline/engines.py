"""The scorer, judge and sampling engines that a run's configuration names."""

from __future__ import annotations

from functools import partial

from transformers import PreTrainedTokenizerBase

from seralign import distributed
from seralign.config import RunConfig, SamplingConfig
from seralign.evaluation.judges import SCORER, Judge, make_judge
from seralign.evaluation.reward_scorer import RewardFunction
from seralign.evaluation.scorer import ScoreFunction, Scorer, load_scorer, make_scorer
from seralign.evaluation.scores import StoredScorer
from seralign.laboratory.world import load_world
from seralign.pipeline.context import Policy, sampled_policy, sampling_dtype
from seralign.policy.load import load_model
from seralign.runs import Run
from seralign.runs.layout import WORLD
from seralign.runs.results import Results
from seralign.sampling import make_sampler
from seralign.sampling.server import ServerSampler
from seralign.sampling.vllm import VllmSampler


def run_scorer(run: Run, config: RunConfig, given: ScoreFunction | None) -> Scorer | None:
    """The function that scores responses: the given one, else the configured one, else the world's; None without any.

    Raises:
        ConfigError: the function is missing or fails to load; names its key.
    """
    if given is not None:
        return make_scorer(given, getattr(given, "__qualname__", repr(given)), "scorer")
    if config.evaluation.scorer is not None:
        return load_scorer(config.evaluation.scorer, "evaluation.scorer", rendered=True)
    if config.world is not None:
        key = "world" if config.world.own is None else "world.own.scorer"
        return make_scorer(load_world(run.path(WORLD)).score, "world", key, settings=run.record(WORLD).digest)
    return None


def check_scorer(scorer: Scorer | None, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a reward model that scores answers reads the policy's prompts.

    Raises:
        ModelError: it has another tokenizer or chat template.
    """
    if scorer is not None and isinstance(scorer.function, RewardFunction):
        scorer.function.model.check_tokenizer(tokenizer)


def run_judge(config: RunConfig, scorer: Scorer | None, results: Results) -> Judge | None:
    """The judge that decides win rates: the configured one, else the scorer; None without either.

    Raises:
        ConfigError: unknown judge, or an option that it does not support; names the key.
    """
    stored = None if scorer is None else StoredScorer(scorer, results)
    name = config.evaluation.judge or (None if scorer is None else SCORER)
    return None if name is None else make_judge(name, config.evaluation.judge_options, stored, results=results)


def sampled_sections(config: RunConfig) -> dict[str, SamplingConfig]:
    """The sections that rounds of a run sample with, by full key."""
    found = {}
    if config.bootstrap is not None and config.bootstraps:
        found["bootstrap"] = config.bootstrap.sampling
    if config.evaluation.prompts:
        found["evaluation"] = config.evaluation.sampling
    return found


def check_samplers(
    config: RunConfig, base: Policy, tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]
) -> None:
    """Check early that all sampling engines exist and support their settings, and that vLLM is installed where it is
    to be started. A server that does not answer yet is a warning.

    Raises:
        ConfigError: names the key.
    """
    load = partial(load_model, base.source, config.policy, sampling_dtype(config))
    policy = sampled_policy(config, base, tokenizer, end_tokens, load)
    for section, settings in sampled_sections(config).items():
        sampler = make_sampler(policy, settings, section)
        if isinstance(sampler, ServerSampler | VllmSampler) and distributed.is_main():
            sampler.check()

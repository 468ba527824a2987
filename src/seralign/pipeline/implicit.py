"""Implicit rewards of responses under a saved policy, outside its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import datasets
import numpy as np
import pyarrow as pa

from seralign.config import RunConfig, ScoringConfig
from seralign.errors import ConfigError
from seralign.objectives import DPO, Objective
from seralign.pipeline.asking import Reader
from seralign.pipeline.inputs import tokenizer_inputs
from seralign.pipeline.saved import SavedPolicy, saved_policy
from seralign.policy.abilities import packed_length
from seralign.policy.identity import weights_digest
from seralign.policy.load import end_tokens, load_model, load_tokenizer
from seralign.records import Candidate, Prompt
from seralign.rewards.cached_logprobs import ScoringPolicy, logps, scores
from seralign.rewards.responses import Responses
from seralign.runs.cache import LogpCache


@dataclass(frozen=True)
class ImplicitReward:
    """A policy whose implicit reward scores responses, and its reference, if its objective has one."""

    policy: SavedPolicy
    reference: SavedPolicy | None
    objective: Objective

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Candidate], cache: LogpCache) -> np.ndarray:
        """Implicit rewards without beta [N] of N responses, in nats.

        Raises:
            ModelError: a log-probability is not finite.
        """
        ids = pa.array([list(one.ids) for one in responses], pa.list_(pa.int32()))
        offsets = pa.array(np.arange(len(responses) + 1), pa.int32())
        columns = {
            "prompt_ids": pa.array([list(one.ids) for one in prompts], pa.list_(pa.int32())),
            "response_ids": pa.ListArray.from_arrays(offsets, ids),
        }
        found = Responses(datasets.Dataset(pa.table(columns), fingerprint="responses"))
        own = _logps(self.policy, found, cache)
        against = None if self.reference is None else _logps(self.reference, found, cache)
        return scores(self.objective, own, against, found.lengths)


def implicit_reward(place: str, reference: str | None, reader: Reader, model: str) -> ImplicitReward:
    """Find the policy of an implicit reward and its reference.

    Args:
        place: The policy, as in ``saved_policy``.
        reference: Its reference; None for that of its run.
        reader: How the policy that wrote the responses reads prompts.
        model: That policy's place, for messages.

    Raises:
        ConfigError: the tokenizers differ, the objective has no implicit reward of a response, or the reference is
            missing.
        SeralignError: a policy cannot be found.
    """
    policy = saved_policy(place)
    config = policy.config
    objective = DPO() if config is None else config.objective.primary
    if config is not None and not config.objective.compares:
        raise ConfigError(f"reward: {place} was trained with {config.objective.name}, which has no implicit reward")
    against = _reference(place, reference, config) if objective.uses_reference else None
    if against is None and reference is not None:
        raise ConfigError(f"reference: the implicit reward of {place} has no reference; remove it")
    same = tokenizer_inputs(reader.tokenizer, reader.end_tokens)
    for key, one in (("reward", policy), ("reference", against)):
        if one is None:
            continue
        tokenizer = load_tokenizer(one.source, one.loading)
        if tokenizer_inputs(tokenizer, end_tokens(one.source, tokenizer)) != same:
            raise ConfigError(
                f"{key}: {one.name} has another tokenizer, chat template or end token than {model}; an implicit reward "
                "is the log-probability of the same tokens"
            )
    return ImplicitReward(policy, against, objective)


def _reference(place: str, reference: str | None, config: RunConfig | None) -> SavedPolicy:
    if reference is not None:
        return saved_policy(reference)
    if config is None:
        raise ConfigError(f"reference is missing: {place} is not a run, so name the reference of its implicit reward")
    given = config.reference
    if given.update == "each_round" or given.adapter is not None:
        raise ConfigError(f"reference is missing: that of {place} is not a single model; name one")
    return saved_policy(place, "start") if given.model is None else saved_policy(given.model)


def _logps(policy: SavedPolicy, responses: Responses, cache: LogpCache) -> np.ndarray:
    """Log-probabilities [N] in float32."""
    scoring = ScoringConfig() if policy.config is None else policy.config.scoring
    length = packed_length(policy.source, policy.loading)
    attention = policy.loading.attention or ("packed" if length else "default")
    load = partial(load_model, policy.source, policy.loading, "float32")
    own = ScoringPolicy(policy.name, weights_digest(policy.source), load, attention=attention)
    return logps(responses, responses.packs(scoring.tokens_per_pack, length), own, cache)

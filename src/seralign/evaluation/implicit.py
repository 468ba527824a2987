"""Implicit rewards of responses under a saved policy, outside its run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import datasets
import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from seralign.config import RunConfig, ScoringConfig
from seralign.errors import ConfigError, ModelError, StoreError
from seralign.objectives import DPO, Objective
from seralign.policy.abilities import packed_length
from seralign.policy.identity import weights_digest
from seralign.policy.load import end_tokens, load_model, load_tokenizer, tokenizer_inputs
from seralign.policy.saved import SavedPolicy, Which, saved_policy
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

    def check_tokenizers(
        self, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int], owner: str, policy: str, reference: str
    ) -> None:
        """Check that both models read the same tokens as another policy.

        Args:
            tokenizer: That policy's tokenizer.
            ends: Its end tokens.
            owner: That policy's place, for messages.
            policy: The configuration key that names the policy of this reward.
            reference: The configuration key that names its reference.

        Raises:
            ConfigError: a tokenizer, a chat template or end tokens differ; names the key.
        """
        same = tokenizer_inputs(tokenizer, ends)
        for key, one in ((policy, self.policy), (reference, self.reference)):
            if one is None:
                continue
            own = load_tokenizer(one.source, one.loading)
            if tokenizer_inputs(own, end_tokens(one.source, own)) != same:
                raise ConfigError(
                    f"{key}: {one.name} has another tokenizer, chat template or end token than {owner}; an implicit "
                    "reward is the log-probability of the same tokens"
                )


def implicit_reward(
    place: str, reference: str | None, *, which: Which = "result", keys: tuple[str, str] = ("reward", "reference")
) -> ImplicitReward:
    """Find the policy of an implicit reward and its reference.

    Of a run, the reward is that of its objective, against its reference. Of another model it is that of DPO.

    Args:
        place: The policy, as in ``saved_policy``.
        reference: Its reference; None for that of its run.
        which: Which policy of a run.
        keys: The configuration keys that name the policy and the reference, for messages.

    Raises:
        ConfigError: the objective has no implicit reward of a response, or the reference is missing.
        SeralignError: a policy cannot be found.
    """
    with _named(keys[0]):
        policy = saved_policy(place, which)
    config = policy.config
    objective = DPO() if config is None else config.objective.primary
    if config is not None and not (config.objective.compares and config.objective.head == "language_model"):
        raise ConfigError(f"{keys[0]}: {place} was trained with {config.objective.name}, which has no implicit reward")
    against = _reference(place, reference, config, keys[1]) if objective.uses_reference else None
    if against is None and reference is not None:
        raise ConfigError(f"{keys[1]}: the implicit reward of {place} has no reference; remove it")
    return ImplicitReward(policy, against, objective)


def _reference(place: str, reference: str | None, config: RunConfig | None, key: str) -> SavedPolicy:
    if reference is not None:
        with _named(key):
            return saved_policy(reference)
    if config is None:
        raise ConfigError(f"{key} is missing: {place} is not a run, so name the reference of its implicit reward")
    given = config.reference
    if given.update == "each_round" or given.adapter is not None:
        raise ConfigError(f"{key} is missing: that of {place} is not a single model; name one")
    return saved_policy(place, "start") if given.model is None else saved_policy(given.model)


def _logps(policy: SavedPolicy, responses: Responses, cache: LogpCache) -> np.ndarray:
    """Log-probabilities [N] in float32."""
    scoring = ScoringConfig() if policy.config is None else policy.config.scoring
    length = packed_length(policy.source, policy.loading)
    attention = policy.loading.attention or ("packed" if length else "default")
    load = partial(load_model, policy.source, policy.loading, "float32")
    own = ScoringPolicy(policy.name, weights_digest(policy.source), load, attention=attention)
    return logps(responses, responses.packs(scoring.tokens_per_pack, length), own, cache)


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Errors about a policy begin with the configuration key that names it."""
    try:
        yield
    except (ConfigError, ModelError, StoreError) as error:
        raise type(error)(f"{key}: {error}") from None

"""What all stages of a run share, and a function that runs a stage once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from seralign import distributed
from seralign.config import RunConfig, SamplingConfig
from seralign.evaluation.judges import Judge
from seralign.evaluation.scorer import Scorer
from seralign.objectives import ObjectiveSum
from seralign.pipeline.inputs import settings
from seralign.policy.heads import HEADS, LANGUAGE_MODEL, Head
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model, tokenizer_inputs
from seralign.policy.release import trim
from seralign.progress import say
from seralign.rewards.cached_logprobs import ScoringPolicy
from seralign.rewards.reward_model import RewardModel
from seralign.runs import Run, StageRecord
from seralign.runs.cache import LogpCache
from seralign.runs.figures import NamedPolicy
from seralign.runs.layout import POLICY, RESULTS
from seralign.runs.results import Results
from seralign.runs.typed import to_json
from seralign.sampling import SampledPolicy, Sampler, make_sampler


@dataclass(frozen=True)
class Policy:
    """A policy of the run: its name, its location, the digest of its weights, and the stage that trained it, if any.

    ``other_base``: the model that its adapter was trained on, if that is not the model that it is used on.
    """

    name: str
    source: PolicySource
    digest: str
    stage: str | None = None
    other_base: str | None = None

    def figures(self) -> NamedPolicy:
        """The policy in a stage's figures."""
        return NamedPolicy(self.name, str(self.source), self.digest, self.other_base)


@dataclass(frozen=True)
class Loop:
    """A run at work.

    ``packed_length`` is the longest sequence that the policy accepts in packed rows, 0 if it accepts none. Only the
    main process uses ``cache``, ``results`` and ``evaluated``. ``evaluated`` stores the answers to held-out prompts,
    their scores and the verdicts of the judge, which runs may share (``evaluation.store``); ``results`` stores all
    else, and may be the same. ``scorer`` is None if nothing scores responses, ``judge`` if nothing compares them.
    ``reward_models`` are those of ``scoring.reward_models``, ``reward_scorers`` those of ``rlhf`` by key.
    """

    config: RunConfig
    run: Run
    tokenizer: PreTrainedTokenizerBase
    end_tokens: frozenset[int]
    objective: ObjectiveSum
    packed_length: int
    cache: LogpCache | None
    results: Results
    evaluated: Results
    scorer: Scorer | None
    judge: Judge | None
    reward_models: tuple[RewardModel, ...] = ()
    reward_scorers: Mapping[str, Scorer] = field(default_factory=dict)

    def stage(self, name: str, inputs: dict[str, str], work: Callable[[Path], object]) -> StageRecord:
        """Run a stage with ``run_stage``; returns its record."""
        return run_stage(self.run, name, inputs, work)

    def settings(self, *keys: str) -> dict[str, str]:
        """Digests of the settings that a stage reads, by dotted key, for its inputs."""
        return settings(self.config, *keys)

    @cached_property
    def tokenizer_inputs(self) -> dict[str, str]:
        """Digests of the tokenizer and the end tokens, for the inputs of a stage that reads them."""
        return tokenizer_inputs(self.tokenizer, self.end_tokens)

    def seed(self, *what: object) -> int:
        """A separate seed for each purpose, derived from the run's seed."""
        text = ":".join(str(part) for part in (self.config.seed, *what))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") % (2**31)

    def sampler(self, policy: Policy, settings: SamplingConfig, key: str, before: Policy | None = None) -> Sampler:
        """The sampling engine of a section for a policy.

        Args:
            policy: The policy.
            settings: The section.
            key: Its full key.
            before: The policy before it in the run, if there is one.

        Raises:
            ConfigError: unknown engine, or a setting that the engine does not support.
        """
        sampled = self.sampled_policy(policy)
        if before is not None and before.digest != policy.digest:
            sampled = replace(sampled, before=self.sampled_policy(before))
        return make_sampler(sampled, settings, key)

    def sampled_policy(self, policy: Policy) -> SampledPolicy:
        """A policy to sample from, with its training weights; cast if scoring is in bfloat16."""
        load = self._loader(policy, sampling_dtype(self.config), LANGUAGE_MODEL)
        return sampled_policy(self.config, policy, self.tokenizer, self.end_tokens, load)

    def load(self, policy: Policy, dtype: str, **how: Any) -> nn.Module:
        """Load a policy's model with ``load_model``, after checking its files against their digests.

        Raises:
            StoreError: a file of the stage that trained it has changed.
        """
        if policy.stage is not None:
            self.run.path(policy.stage, POLICY)
        return load_model(policy.source, self.config.policy, dtype, **how)

    def scoring_policy(self, policy: Policy) -> ScoringPolicy:
        """A policy to score data with, in the precision of scoring. For float32 the weights are float32 too. Mixed
        precision is the same as in training, so that both can use the same cached values."""
        precision = self.config.scoring.dtype
        weights = "float32" if precision == "float32" else self.config.policy.dtype
        return self._scoring(policy, weights, precision)

    def training_policy(self, policy: Policy) -> ScoringPolicy:
        """A policy as the trainer runs it: same weights and precision, so that step 0 agrees to the last bit."""
        return self._scoring(policy, self.config.policy.dtype, self.config.training.precision)

    def divided(self, precision: str) -> str | None:
        """The precision of a policy that is divided over the processes; None if each has all of it."""
        return precision if self.config.training.shard == "fsdp" and distributed.world_size() > 1 else None

    @property
    def head(self) -> Head:
        """The head that the rounds train."""
        return HEADS[self.objective.head]

    def _scoring(self, policy: Policy, weights: str, precision: str) -> ScoringPolicy:
        divided = self.divided(precision)
        load = partial(self.load, policy, weights, head=self.head, divided=divided, scores_in=precision)
        way = (weights, precision, self._attention, self.head, divided is not None)
        return ScoringPolicy(policy.name, policy.digest, load, *way)

    def _loader(self, policy: Policy, weights: str, head: Head) -> Callable[[], nn.Module]:
        return partial(self.load, policy, weights, head=head)

    @property
    def _attention(self) -> str:
        return self.config.policy.attention or ("packed" if self.packed_length else "default")


def sampling_dtype(config: RunConfig) -> str:
    """Data type of the weights to sample from; an unsettled ``auto`` counts as not set."""
    return "bfloat16" if config.scoring.dtype == "bfloat16" else config.policy.dtype


def sampled_policy(
    config: RunConfig,
    policy: Policy,
    tokenizer: PreTrainedTokenizerBase,
    end_tokens: frozenset[int],
    load: Callable[[], nn.Module],
) -> SampledPolicy:
    """A policy for engines; ``load`` loads it with weights of ``sampling_dtype``."""
    dtype, attention = sampling_dtype(config), config.policy.attention or "default"
    return SampledPolicy(policy.name, policy.source, dtype, attention, tokenizer, end_tokens, load, config.policy)


def run_results(run: Run) -> Results:
    """The store of a run's results."""
    return Results(run.root / RESULTS)


def run_stage(run: Run, name: str, inputs: dict[str, str], work: Callable[[Path], object]) -> StageRecord:
    """Run a stage unless it has finished. All processes call it; only the main one touches the folder.

    Args:
        run: The run.
        name: Name of the stage.
        inputs: Digests of everything that the stage reads, by name.
        work: Fills the given folder and returns the stage's figures, a dataclass of ``seralign.runs.figures``. The
            main process's figures are kept.

    Raises:
        StoreError: the stage finished with other inputs, or its files are damaged.
    """
    if distributed.is_main():
        run.recover(name)
    if distributed.broadcast(run.exists(name)):
        return distributed.broadcast(run.verify(name, inputs) if distributed.is_main() else run.record(name))
    started = time.monotonic()
    say(f"[{name}]")
    if distributed.is_main():
        run.begin(name, inputs)
    distributed.barrier()
    figures = work(run.partial(name))
    distributed.barrier()
    if distributed.is_main():
        run.commit(name, inputs, to_json(figures), time.monotonic() - started)
    distributed.barrier()
    trim()  # a stage over many pairs leaves a hundred megabytes that the allocator would keep
    return run.record(name)

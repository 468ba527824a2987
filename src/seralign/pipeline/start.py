"""The context of the opening stages: a run whose data have not been read yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from seralign.config import RunConfig
from seralign.config.paths import expanded
from seralign.config.supplied import supplied
from seralign.evaluation.scorer import ScoreFunction
from seralign.pipeline.context import Loop, Policy, run_results
from seralign.pipeline.data import Tables, read_tables
from seralign.pipeline.engines import check_samplers, check_scorer, run_judge, run_scorer
from seralign.pipeline.model_rewards import open_models
from seralign.pipeline.precision import rates
from seralign.pipeline.prepare import checked_source, hashed_policy, reference_policy, start_head
from seralign.pipeline.rlhf_rewards import reward_scorers
from seralign.policy.abilities import packed_length
from seralign.policy.heads import HEADS
from seralign.policy.identity import PolicySource
from seralign.policy.load import end_tokens, load_tokenizer
from seralign.policy.saved import base_source
from seralign.policy.speed import Rates
from seralign.runs import Run
from seralign.runs.layout import WORLD
from seralign.runs.results import Results


@dataclass(frozen=True)
class Start:
    """A run whose data have not been read yet. Each property is computed on first use and cached.

    Args:
        run: The run's folder.
        given: The configuration as the user gave it.
        scorer: Scores responses; replaces ``evaluation.scorer``.
        results: Stored results of the run.
        evaluated: Stored results of evaluations, in the same file or in that of ``evaluation.store``.
    """

    run: Run
    given: RunConfig
    scorer: ScoreFunction | None
    results: Results
    evaluated: Results

    @cached_property
    def config(self) -> RunConfig:
        """The configuration, completed from its world.

        Raises:
            StoreError: the stage ``world`` has not finished.
        """
        return self.given if self.given.world is None else supplied(self.given, self.run.path(WORLD))

    @cached_property
    def source(self) -> PolicySource:
        """The configured model (and adapter), as local folders.

        Raises:
            ModelError: the model does not exist or cannot be trained.
        """
        # A configured model exists before the world does: in the world ``own`` it answers the prompts.
        config = self.config if self.given.policy.model is None else self.given
        return checked_source(base_source(config), config.policy, start_head(config))

    @cached_property
    def base(self) -> Policy:
        """The configured policy; reads its weights to compute their digest.

        Raises:
            ModelError: as ``source``, or a weight is NaN or infinite.
        """
        named = self.given.policy.model or self.config.policy.model
        return hashed_policy("initial", self.source, str(named), "policy")

    @cached_property
    def reference(self) -> Policy | None:
        """The configured reference, if there is one.

        Raises:
            ModelError: the model does not exist or cannot score.
            ConfigError: its vocabulary differs from the policy's.
        """
        return reference_policy(self.config, self.source)

    @cached_property
    def loop(self) -> Loop:
        """The run, without a cache of log-probabilities.

        Raises:
            ConfigError: unknown scorer, judge or sampling engine, or a setting that it does not support.
        """
        config, base = self.config, self.base
        tokenizer = load_tokenizer(base.source, config.policy)
        ends = end_tokens(base.source, tokenizer)
        models = open_models(config, tokenizer)
        found = run_scorer(self.run, config, self.scorer)
        check_scorer(found, tokenizer)
        rewards = reward_scorers(config, found)
        judge = run_judge(config, found, self.evaluated)
        check_samplers(config, base, tokenizer, ends)
        length = packed_length(base.source, config.policy, HEADS[config.objective.head].families)
        return Loop(
            config,
            self.run,
            tokenizer,
            ends,
            config.objective,
            length,
            None,
            self.results,
            self.evaluated,
            found,
            judge,
            models,
            rewards,
        )

    @cached_property
    def rates(self) -> Rates | None:
        """The processor's speed in each precision; None if another device computes."""
        return rates(self.given, self.source)

    @cached_property
    def tables(self) -> Tables:
        """The data of the run.

        Raises:
            StoreError: the stage ``data`` has not finished.
        """
        return read_tables(self.run)


@contextmanager
def started(run: Run, given: RunConfig, scorer: ScoreFunction | None, store: Path | None = None) -> Iterator[Start]:
    """The start of a run. Its results are stored in the run or in the file ``store``, those of evaluations in
    ``evaluation.store``, if that is set. All files are closed at the end."""
    named = given.evaluation.store
    with ExitStack() as stack:
        results = stack.enter_context(closing(run_results(run) if store is None else Results(store)))
        evaluated = results if named is None else stack.enter_context(closing(Results(Path(expanded(named)))))
        yield Start(run, given, scorer, results, evaluated)

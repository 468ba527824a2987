"""What the opening stages work with: a run whose data are not read yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property

from seralign.config import RunConfig
from seralign.evaluation.scorer import ScoreFunction
from seralign.laboratory.world import supplied
from seralign.pipeline.context import Loop, Policy, run_results
from seralign.pipeline.data import Tables, read_tables
from seralign.pipeline.engines import check_samplers, run_judge, run_scorer
from seralign.pipeline.precision import rates
from seralign.pipeline.prepare import base_source, checked_source, hashed_policy, reference_policy
from seralign.policy.abilities import packed_length
from seralign.policy.identity import PolicySource
from seralign.policy.load import end_tokens, load_tokenizer
from seralign.policy.speed import Rates
from seralign.runs import Run
from seralign.runs.layout import WORLD
from seralign.runs.results import Results


@dataclass(frozen=True)
class Start:
    """A run whose data are not read yet. Each property is made when it is first asked for, and then kept.

    Args:
        run: The run's folder.
        given: The configuration as the user gave it.
        scorer: Scores responses in place of ``evaluation.scorer``.
        results: Stored results of the run.
    """

    run: Run
    given: RunConfig
    scorer: ScoreFunction | None
    results: Results

    @cached_property
    def config(self) -> RunConfig:
        """The configuration, with what the world supplies.

        Raises:
            StoreError: the stage ``world`` has not finished.
        """
        return self.given if self.given.world is None else supplied(self.given, self.run.path(WORLD))

    @cached_property
    def source(self) -> PolicySource:
        """The model (and adapter) that the configuration names, as local folders.

        Raises:
            ModelError: there is no such model, or it is none that can be trained.
        """
        # A model that is given is there before the world: the policy answers the prompts of a world of one's own.
        config = self.config if self.given.policy.model is None else self.given
        return checked_source(base_source(config), config.policy)

    @cached_property
    def base(self) -> Policy:
        """The policy that the configuration names; its weights are read to make the digest.

        Raises:
            ModelError: as ``source``, or a weight is NaN or infinite.
        """
        named = self.given.policy.model or self.config.policy.model
        return hashed_policy("initial", self.source, str(named), "policy")

    @cached_property
    def reference(self) -> Policy | None:
        """The reference that the configuration names, if it names one.

        Raises:
            ModelError: there is no such model, or it is none that can score.
            ConfigError: its vocabulary is not the policy's.
        """
        return reference_policy(self.config, self.source)

    @cached_property
    def loop(self) -> Loop:
        """The run, without a cache of log-probabilities.

        Raises:
            ConfigError: there is no such scorer, judge or sampling engine, or it cannot honour a setting.
        """
        config, base = self.config, self.base
        tokenizer = load_tokenizer(base.source, config.policy)
        ends = end_tokens(base.source, tokenizer)
        found = run_scorer(self.run, config, self.scorer)
        judge = run_judge(config, found, self.results)
        check_samplers(config, base, tokenizer, ends)
        length = packed_length(base.source, config.policy)
        return Loop(config, self.run, tokenizer, ends, config.objective, length, None, self.results, found, judge)

    @cached_property
    def rates(self) -> Rates | None:
        """How fast the processor computes in each precision; None where another device computes."""
        return rates(self.given, self.source)

    @cached_property
    def tables(self) -> Tables:
        """The data of the run.

        Raises:
            StoreError: the stage ``data`` has not finished.
        """
        return read_tables(self.run)


@contextmanager
def started(run: Run, given: RunConfig, scorer: ScoreFunction | None) -> Iterator[Start]:
    """The start of a run; its store of results is closed in the end."""
    with closing(run_results(run)) as results:
        yield Start(run, given, scorer, results)

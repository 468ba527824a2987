"""The stages of a run, made from its configuration: the whole of SeRA (2410.09362) on one page.

The opening stages complete the configuration and read the data. Round 1 trains on all pairs, whose labels copies of the
policy may have corrected. Each later round scores the pairs under the last policies, selects those with a large margin,
makes new pairs of sampled answers, and trains on both. With another ``bootstrap.method``, every round trains on newly
made pairs alone: online DPO, SPIN, SAPO (docs/self_play.md).

``seralign train`` carries all stages out. ``seralign plan`` carries out the opening ones in a temporary folder, since
what they find decides what the later ones do, and adds up the costs of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from seralign.config import RunConfig
from seralign.pipeline.averaging import Average
from seralign.pipeline.base import MergeAdapter
from seralign.pipeline.bootstrapping import Bootstrap
from seralign.pipeline.composing import Compose, ComposedPairs
from seralign.pipeline.crossfit import Crossfit, OtherFolds
from seralign.pipeline.deciding import Decide
from seralign.pipeline.evaluating import Evaluation
from seralign.pipeline.evaluating_rewards import RewardEvaluation
from seralign.pipeline.lineage import BASE, BASELINE, INITIAL, REFERENCE, Round, rounds, trained_in
from seralign.pipeline.policies import Policies
from seralign.pipeline.precision import Precision
from seralign.pipeline.reading import Data
from seralign.pipeline.replaying import GeneratedPairs, Replay
from seralign.pipeline.result import Result
from seralign.pipeline.rlhf import RewardTraining
from seralign.pipeline.rows import AllPairs, Demonstrations, FirstPairs, Rows, round_rows
from seralign.pipeline.sampling import Sample
from seralign.pipeline.scoring import Score
from seralign.pipeline.selecting import Select
from seralign.pipeline.self_play import SelfPlay
from seralign.pipeline.stage import Context, OpeningStage, Stage
from seralign.pipeline.start import Start
from seralign.pipeline.tokens import Tokens
from seralign.pipeline.training import Training
from seralign.pipeline.world import World
from seralign.runs.layout import SFT, fold_stage, training


def schedule(config: RunConfig) -> tuple[Stage[Start] | Stage[Context], ...]:
    """All stages of a run, in order. ``seralign.runs.layout.place`` gives reports the same order."""
    return (*opening(config), *later(config))


def opening(config: RunConfig) -> tuple[OpeningStage, ...]:
    """The stages that complete the configuration and read the data."""
    return (*(() if config.world is None else (World(config.world),)), Data(), Precision())


def later(config: RunConfig) -> tuple[Stage[Context], ...]:
    """The stages after the opening ones, of a configuration as the user gave it or as it was completed.

    A round's decision to stop leaves out the rounds after it, and nothing else.
    """
    return tuple(_later(config))


def _later(config: RunConfig) -> Iterator[Stage[Context]]:
    if config.policy.merges:
        yield MergeAdapter()
    if config.sft is not None:
        yield Training(SFT, BASE, Demonstrations(), section="sft")
    yield Policies()
    if config.objective.samples:
        yield Evaluation(INITIAL)
    if config.crossfit is not None:
        copies = tuple(fold_stage(number) for number in range(config.crossfit.folds))
        for number, copy in enumerate(copies):
            yield Training(copy, INITIAL, round_rows(config, OtherFolds(number)), REFERENCE)
        yield Crossfit(copies)
    for each in rounds(config):
        yield from _round(config, each)
    if config.evaluation.baseline:
        trainings = tuple(training(each.policy) for each in rounds(config))
        yield Training(training(BASELINE), INITIAL, round_rows(config, AllPairs()), REFERENCE, as_long_as=trainings)
        yield Evaluation(BASELINE, rivals=(INITIAL,))
    yield Result()


def _round(config: RunConfig, this: Round) -> Iterator[Stage[Context]]:
    rows: Rows = FirstPairs()
    if this.averages:
        yield Average(this)
    if this.generates_all:
        yield Sample(this)
        yield SelfPlay(this) if config.demonstrated else Bootstrap(this)
        yield Replay(this)
        rows = GeneratedPairs(this)
    elif this.is_reviewed:
        yield Score(this)
        yield Select(this)
        if this.sample_from is not None:
            yield Sample(this)
            yield Bootstrap(this)
        yield Compose(this)
        rows = ComposedPairs(this)
    if config.rlhf is not None:
        yield RewardTraining(training(this.policy), this.start, this.reference)
    else:
        yield Training(training(this.policy), this.start, round_rows(config, rows), this.reference)
    if config.objective.samples:
        yield Evaluation(this.policy, rivals=tuple(trained_in(past) for past in range(this.index)))
    else:
        yield RewardEvaluation(this.policy)
    if config.evaluation.token_pairs and config.has_pairs:
        yield Tokens(this.index)
    yield Decide(this.index)

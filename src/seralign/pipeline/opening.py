"""What comes before the schedule: the stages that complete a run's configuration and read its data, and all checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

from seralign import distributed
from seralign.config import RunConfig
from seralign.evaluation.scorer import ScoreFunction
from seralign.pipeline.base import base_stage
from seralign.pipeline.checks import check_tables
from seralign.pipeline.context import Loop, Policy, run_results
from seralign.pipeline.data import Tables, data_stage
from seralign.pipeline.engines import check_samplers, run_judge, run_scorer
from seralign.pipeline.precision import settle
from seralign.pipeline.prepare import base_policy, reference_policy, world_stage
from seralign.pipeline.stage import Context
from seralign.policy.abilities import packed_length
from seralign.policy.load import end_tokens, load_tokenizer
from seralign.runs import Run
from seralign.runs.cache import LogpCache
from seralign.runs.layout import LOGPS


@contextmanager
def opened(run: Run, given: RunConfig, scorer: ScoreFunction | None) -> Iterator[Context]:
    """What the stages of a run work with, until it is closed.

    Four stages are carried out: ``world`` supplies what the configuration leaves out, ``data`` reads and tokenizes,
    ``precision`` settles what ``auto`` stands for, and ``base`` merges an adapter into its model. A finished stage
    binds the folder to its configuration, so mistakes are found before the data stage is finished.

    Raises:
        SeralignError: a user's mistake: configuration, data or model.
    """
    config = world_stage(run, given)
    base = base_policy(config)
    loop = make_loop(run, config, base, scorer)
    file = config.scoring.cache or run.root / LOGPS
    opened_cache = closing(LogpCache(file)) if distributed.is_main() else nullcontext()
    with closing(loop.results), opened_cache as cache:
        reference = reference_policy(config, base.source)
        tables = checked_data(loop)
        loop, base = base_stage(replace(loop, config=settle(run, config, base.source), cache=cache), base)
        yield Context(loop, tables, base, reference)


def make_loop(run: Run, config: RunConfig, base: Policy, scorer: ScoreFunction | None) -> Loop:
    """A run before its data are read, with no cache of log-probabilities.

    Raises:
        ConfigError: there is no such scorer, judge or sampling engine, or it cannot honour a setting.
    """
    tokenizer = load_tokenizer(base.source, config.policy)
    ends = end_tokens(base.source, tokenizer)
    found, results = run_scorer(run, config, scorer), run_results(run)
    judge = run_judge(config, found, results)
    check_samplers(config, base, tokenizer, ends)
    length = packed_length(base.source, config.policy)
    return Loop(config, run, tokenizer, ends, config.objective, length, None, results, found, judge)


def checked_data(loop: Loop) -> Tables:
    """The data of a run, read, tokenized and checked against the whole configuration.

    Raises:
        DataError: a source cannot be read.
        ConfigError: a setting does not fit the data.
        ModelError: the data have tokens that the model has no embedding for.
    """
    check = partial(check_tables, loop.config, loop.judge)
    return data_stage(loop.run, loop.config, loop.tokenizer, loop.end_tokens, check)

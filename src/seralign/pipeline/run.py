"""A run from its first stage to its last, in order: the whole of SeRA (2410.09362) on one page.

Round 1 trains on all pairs, whose labels copies of the policy may have mended. Each later round scores the pairs under
the last policies, keeps those with a large margin, makes new ones of sampled answers, and trains on both.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from seralign import distributed
from seralign.config import RunConfig, to_dict
from seralign.data.table import forms
from seralign.errors import ConfigError
from seralign.evaluation.judges import Judge
from seralign.evaluation.scorer import ScoreFunction
from seralign.harm import Harm, harm
from seralign.objectives import ObjectiveSum
from seralign.pipeline.base import base_stage
from seralign.pipeline.context import Loop, Policy, run_results
from seralign.pipeline.crossfit import crossfitted
from seralign.pipeline.data import Tables, data_stage
from seralign.pipeline.engines import check_samplers, run_judge, run_scorer
from seralign.pipeline.evaluating import evaluate_stage
from seralign.pipeline.precision import settle
from seralign.pipeline.prepare import (
    base_policy,
    policies_stage,
    reference_source,
    sft_stage,
    trained,
    world_stage,
)
from seralign.pipeline.reporting import report
from seralign.pipeline.result import result_stage
from seralign.pipeline.rounds import RewardPolicies, bootstrap, compose, review, sample, training_pairs
from seralign.pipeline.stopping import Decision, RoundGain, decide
from seralign.pipeline.tokens import token_stage
from seralign.pipeline.training import check_sections, check_trainings, train_stage
from seralign.policy.abilities import packed_length
from seralign.policy.load import end_tokens, load_tokenizer
from seralign.progress import say
from seralign.records import content_id
from seralign.rewards.pairing import draw_prompts
from seralign.runs import Run, StageRecord, open_run, read_manifest
from seralign.runs.cache import LogpCache
from seralign.runs.figures import ComposeFigures, DecideFigures, EvaluateFigures, ResultFigures, TrainFigures
from seralign.runs.files import disk_errors, locked
from seralign.runs.layout import INITIAL_EVALUATION, LOGPS, RESULT, WORLD
from seralign.training.forms import check_forms


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, the folder of its result, and that stage's figures."""

    run: Run
    policy: Path
    figures: ResultFigures


def train(config: RunConfig, scorer: ScoreFunction | None = None) -> RunResult:
    """Carry a run from where it is to its end.

    Every stage is written atomically and recorded; a stage that has finished is read back. Killed at any moment and
    called again, the run ends as if it had not been.

    Args:
        config: The run.
        scorer: Scores responses, (prompts, responses) to one finite number each, higher is better; in place of
            ``evaluation.scorer``.

    Raises:
        SeralignError: a user's mistake: configuration, data, model, or a folder that does not fit.
    """
    distributed.start()
    check_sections(config)
    root = Path(config.out)
    with disk_errors(root):
        if not distributed.is_main():
            distributed.barrier()
            return _train(Run(root), config, scorer)
        with locked(root):
            run = open_run(root, to_dict(config), _versions(), free=frozenset({WORLD}))
            _tell_versions(run)
            distributed.barrier()
            return _train(run, config, scorer)


def _train(run: Run, given: RunConfig, scorer: ScoreFunction | None) -> RunResult:
    config = world_stage(run, given)
    base = base_policy(config)
    tokenizer = load_tokenizer(base.source, config.policy)
    ends = end_tokens(base.source, tokenizer)
    # A finished stage binds the folder to its configuration: what can be wrong with it is found out before the data
    # stage is finished, and the precision, which cannot be wrong, is recorded only then.
    found, results = run_scorer(run, config, scorer), run_results(run)
    judge = run_judge(config, found, results)
    check_samplers(config, base, tokenizer, ends)
    reference_source(config, base.source)
    objective, length = config.objective, packed_length(base.source, config.policy)
    cache = None
    if distributed.is_main():
        cache = LogpCache(config.scoring.cache or run.root / LOGPS)
    try:
        tables = data_stage(run, config, tokenizer, ends, partial(check_tables, config, judge))
        config = settle(run, config, base.source)
        loop = Loop(config, run, tokenizer, ends, objective, length, cache, results, found, judge)
        loop, base = base_stage(loop, base)
        initial, reference = policies_stage(loop, base, sft_stage(loop, tables, base))
        say(f"reference: {reference.source}, weights sha256 {reference.digest[:16]}")
        return _rounds(loop, tables, initial, reference)
    finally:
        results.close()
        if cache is not None:
            cache.close()


def _rounds(loop: Loop, tables: Tables, initial: Policy, reference: Policy) -> RunResult:
    config = loop.config
    evaluate = _evaluator(loop, tables, reference)
    evaluate(INITIAL_EVALUATION, initial, {})
    given = tables
    if config.crossfit is not None:
        tables = crossfitted(loop, given, initial, reference, config.crossfit)
    policies, references = [initial], [reference]
    history: list[RoundGain] = []
    decision = Decision(False, "", 1)
    steps = 0
    for index in range(1, config.rounds + 1):
        start = policies[-1] if config.policy.start == "previous" else initial
        against = policies[-1] if config.reference.update == "each_round" and index > 1 else reference
        pairs, digest = first_pairs(loop, tables), tables.digest
        if index > 1:
            before = (policies[-2], references[-2]) if index > 2 else None
            reward_policies = RewardPolicies((policies[-1], references[-1]), before)
            sources = {"policy": policies[-1], "previous": policies[-2], "initial": initial}
            pairs, digest = _reviewed(loop, index, tables, reward_policies, sources)
        stage = f"round-{index}/train"
        record = train_stage(
            loop,
            stage,
            start=start,
            reference=against,
            pairs=pairs,
            pairs_digest=digest,
            heldout=tables.heldout,
            objective=loop.objective,
            config=config.training,
        )
        steps += loop.run.read_figures(record, TrainFigures).steps
        policy = trained(loop, stage, f"round {index}", start, record)
        rivals = {initial.name: INITIAL_EVALUATION} | {
            f"round {past}": f"round-{past}/evaluate" for past in range(1, index)
        }
        figures = loop.run.read_figures(evaluate(f"round-{index}/evaluate", policy, rivals), EvaluateFigures)
        if config.evaluation.token_pairs:
            token_stage(loop, index, policy=policy, reference=reference, pairs=tables.pairs, data_digest=tables.digest)
        policies.append(policy)
        references.append(against)
        history.append(_gain(index, figures, initial))
        decision = decide(history, config.stop, config.rounds)
        harmed = _harm(figures, initial)
        outcome = DecideFigures(**asdict(decision), harm=None if harmed is None else harmed.text)
        is_new = not loop.run.exists(f"round-{index}/decide")
        inputs = {"policy": policy.digest, "evaluations": content_id([asdict(gain) for gain in history])}
        inputs |= loop.settings("stop", "rounds")
        loop.stage(f"round-{index}/decide", inputs, lambda _, outcome=outcome: outcome)
        say(f"round {index}: {decision.reason}" + (f"; it does harm: {harmed.text}" if harmed else ""))
        if is_new:
            report(loop.run)
        if decision.stop:
            break
    if config.evaluation.baseline:
        _baseline(loop, given, initial, reference, steps, evaluate)
    best = policies[decision.best_round]
    record = result_stage(loop, best, decision, initial)
    report(loop.run)
    return RunResult(loop.run, loop.run.root / RESULT, loop.run.read_figures(record, ResultFigures))


def _reviewed(
    loop: Loop, index: int, tables: Tables, reward_policies: RewardPolicies, sources: dict[str, Policy]
) -> tuple[Any, str]:
    """Review, sample, pair and mix: the training data of a round, and its digest."""
    config = loop.config.bootstrap
    selected = review(loop, index, reward_policies, tables.pairs, tables.digest)
    made: StageRecord | None = None
    if config is not None:
        prompts = draw_prompts(tables.prompts, config.prompts, loop.seed("prompts", index))
        sampled = sample(loop, index, sources[config.sample_from], prompts, tables.digest, config)
        made = bootstrap(loop, index, reward_policies, prompts, tables.digest, selected, sampled, config)
    composed = compose(loop, index, selected, made, config)
    has_generated = loop.run.read_figures(composed, ComposeFigures).generated > 0
    digest = content_id([tables.digest, None if made is None else made.digest, composed.digest])
    return training_pairs(loop, index, tables.pairs, has_generated), digest


def _baseline(
    loop: Loop,
    tables: Tables,
    initial: Policy,
    reference: Policy,
    steps: int,
    evaluate: Callable[[str, Policy, dict[str, str]], StageRecord],
) -> None:
    """The objective alone on all pairs, with as many steps as all rounds together."""
    record = train_stage(
        loop,
        "baseline/train",
        start=initial,
        reference=reference,
        pairs=tables.pairs,
        pairs_digest=tables.digest,
        heldout=tables.heldout,
        objective=loop.objective,
        config=replace(loop.config.training, max_steps=steps, epochs=None),
    )
    policy = trained(loop, "baseline/train", loop.objective.name, initial, record)
    evaluate("baseline/evaluate", policy, {initial.name: INITIAL_EVALUATION})


def first_pairs(loop: Loop, tables: Tables) -> datasets.Dataset:
    """What round 1 trains on: all pairs; demonstrations where the objective compares no responses and there are any."""
    return _first(loop.objective, tables)


def _first(objective: ObjectiveSum, tables: Tables) -> datasets.Dataset:
    if not objective.compares and tables.demonstrations is not None:
        return tables.demonstrations
    return tables.pairs


def _evaluator(loop: Loop, tables: Tables, reference: Policy) -> Callable[[str, Policy, dict[str, str]], StageRecord]:
    config = loop.config.evaluation
    prompts = draw_prompts(tables.heldout_prompts, config.prompts, loop.seed("evaluation prompts"))

    def evaluate(name: str, policy: Policy, rivals: dict[str, str]) -> StageRecord:
        return evaluate_stage(
            loop,
            name,
            policy=policy,
            reference=reference,
            prompts=prompts,
            heldout=tables.heldout,
            data_digest=tables.digest,
            rivals=rivals if loop.judge is not None and len(prompts) else {},
        )

    return evaluate


def _gain(index: int, figures: EvaluateFigures, initial: Policy) -> RoundGain:
    accuracy = figures.heldout_accuracy
    rates = {name: rate.mean for name, rate in figures.win_rates.items()}
    numbers = {initial.name: 0} | {f"round {past}": past for past in range(1, index)}
    mean = None if accuracy is None else accuracy.mean
    return RoundGain(index, mean, {numbers[name]: rate for name, rate in rates.items()})


def _harm(figures: EvaluateFigures, initial: Policy) -> Harm | None:
    return harm(figures.heldout_accuracy, figures.win_rates.get(initial.name))


def check_tables(config: RunConfig, judge: Judge | None, tables: Tables) -> None:
    """Refuse a stopping rule whose figure will not be there, data that the objective does not take, and a training that
    would change nothing.

    Raises:
        ConfigError: The run has one.
    """
    _check_stop(config, judge, tables)
    demonstrations = tables.pairs if tables.demonstrations is None else tables.demonstrations
    first = _first(config.objective, tables)
    check_forms(forms(first), config.objective, "data.pairs" if first is tables.pairs else "data.demonstrations")
    check_forms(
        forms(tables.heldout), config.objective, "data.pairs" if config.data.heldout is None else "data.heldout"
    )
    check_trainings(config, demonstrations=len(demonstrations), pairs=len(first))


def _check_stop(config: RunConfig, judge: Judge | None, tables: Tables) -> None:
    metric = config.stop.metric
    if config.rounds == 1 or metric == "never":
        return
    if metric == "win_rate" and judge is None:
        raise ConfigError(
            "stop.metric: win_rate needs evaluation.scorer (module:function) to score responses, or evaluation.judge"
        )
    if not len(tables.heldout):
        raise ConfigError(
            f"stop.metric: {metric} needs held-out pairs; set data.heldout or data.heldout_fraction, "
            "or stop.metric: never"
        )


def _tell_versions(run: Run) -> None:
    begun = read_manifest(run.root)["versions"]
    changed = [f"{name} {begun.get(name)} -> {now}" for name, now in _versions().items() if begun.get(name) != now]
    if changed:
        say(f"warning: the run began with other versions ({', '.join(changed)}); its figures may not be exactly equal")


def _versions() -> dict[str, str]:
    packages = ("seralign", "torch", "transformers", "peft", "accelerate", "datasets")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}

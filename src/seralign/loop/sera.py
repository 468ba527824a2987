"""A run from its first stage to its last, in order: the whole of SeRA (2410.09362) on one page.

Round 1 trains on all pairs. Each later round scores the pairs under the last policies, keeps those with a large
margin, lets the last policy make pairs of its own, and trains on both.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seralign import distributed
from seralign.bootstrapping import round_prompts
from seralign.cache import LogpCache
from seralign.config import RunConfig, to_dict
from seralign.evaluation.scorer import Scorer, load_scorer
from seralign.laboratory.world import load_world
from seralign.loop.context import Loop, Policy
from seralign.loop.data import Tables, data_stage
from seralign.loop.evaluating import evaluate_stage, evaluation_prompts
from seralign.loop.prepare import WORLD, base_policy, policies_stage, sft_stage, trained, world_stage
from seralign.loop.result import RESULT, result_stage
from seralign.loop.rounds import Scorers, bootstrap, compose, review, sample, training_pairs
from seralign.loop.stop import Decision, RoundGain, decide
from seralign.loop.training import train_stage
from seralign.objectives import objective_from
from seralign.policy.load import end_tokens, load_tokenizer
from seralign.progress import say
from seralign.store import Run, StageRecord, disk_errors, locked, open_run

INITIAL = "initial/evaluate"


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, the folder of its result, and that stage's figures."""

    run: Run
    policy: Path
    figures: dict[str, Any]


def train(config: RunConfig, scorer: Scorer | None = None) -> RunResult:
    """Carry a run from where it is to its end.

    Every stage is written atomically and recorded; a stage that has finished is read back. Killed at any moment and
    called again, the run ends as if it had not been.

    Args:
        config: The run.
        scorer: Scores responses, (prompts, responses) to one number each; in place of ``evaluation.scorer``.

    Raises:
        SeralignError: a user's mistake: configuration, data, model, or a folder that does not fit.
    """
    distributed.start()
    root = Path(config.out)
    with disk_errors(root):
        if not distributed.is_main():
            distributed.barrier()
            return _train(Run(root), config, scorer)
        with locked(root):
            run = open_run(root, to_dict(config), _versions())
            distributed.barrier()
            return _train(run, config, scorer)


def _train(run: Run, given: RunConfig, scorer: Scorer | None) -> RunResult:
    config = world_stage(run, given)
    base = base_policy(config)
    tokenizer = load_tokenizer(base.source, config.policy)
    ends = end_tokens(base.source, tokenizer)
    tables = data_stage(run, config, tokenizer, ends)
    cache = None
    if distributed.is_main():
        cache = LogpCache(config.scoring.cache or run.root / "cache" / "logps.sqlite")
    loop = Loop(config, run, tokenizer, ends, objective_from(config.objective), cache, _scorer(run, config, scorer))
    try:
        initial, reference = policies_stage(loop, base, sft_stage(loop, tables, base))
        say(f"reference: {reference.source}, weights sha256 {reference.digest[:16]}")
        return _rounds(loop, tables, initial, reference)
    finally:
        if cache is not None:
            cache.close()


def _rounds(loop: Loop, tables: Tables, initial: Policy, reference: Policy) -> RunResult:
    config = loop.config
    evaluate = _evaluator(loop, tables, reference)
    evaluate(INITIAL, initial, reference, {})
    policies, references = [initial], [reference]
    history: list[RoundGain] = []
    decision = Decision(False, "", 1)
    steps = 0
    for index in range(1, config.rounds + 1):
        start = policies[-1] if config.policy.start == "previous" else initial
        anchor = policies[-1] if config.reference.anchor == "previous" and index > 1 else reference
        pairs, digest = tables.pairs, tables.digest
        if index > 1:
            before = (policies[-2], references[-2]) if index > 2 else None
            pairs, digest = _reviewed(loop, index, tables, Scorers((policies[-1], references[-1]), before))
        stage = f"round-{index}/train"
        record = train_stage(
            loop,
            stage,
            start=start,
            reference=anchor,
            pairs=pairs,
            pairs_digest=digest,
            heldout=tables.heldout,
            objective=loop.objective,
            config=config.training,
        )
        steps += record.figures["steps"]
        policy = trained(loop, stage, f"round {index}", start, record)
        rivals = {initial.name: INITIAL}
        if index > 1:
            rivals[f"round {index - 1}"] = f"round-{index - 1}/evaluate"
        figures = evaluate(f"round-{index}/evaluate", policy, anchor, rivals).figures
        policies.append(policy)
        references.append(anchor)
        history.append(_gain(index, figures))
        decision = decide(history, config.stop, config.rounds)
        outcome = {"stop": decision.stop, "reason": decision.reason, "best_round": decision.best_round}
        loop.stage(f"round-{index}/decide", {"policy": policy.digest}, lambda _, outcome=outcome: outcome)
        say(f"round {index}: {decision.reason}")
        if decision.stop:
            break
    if config.evaluation.baseline:
        _baseline(loop, tables, initial, reference, steps, evaluate)
    best = policies[decision.best_round]
    record = result_stage(loop, best, decision, initial, reference)
    return RunResult(loop.run, loop.run.path(RESULT), record.figures)


def _reviewed(loop: Loop, index: int, tables: Tables, scorers: Scorers) -> tuple[Any, str]:
    """Review, sample, pair and mix: the training data of a round, and its digest."""
    config = loop.config.bootstrap
    selected = review(loop, index, scorers, tables.pairs, tables.digest)
    made: StageRecord | None = None
    if config is not None:
        prompts = round_prompts(tables.prompts, config, loop.seed("prompts", index))
        sampled = sample(loop, index, scorers.last[0], prompts, tables.digest, config)
        made = bootstrap(loop, index, scorers, prompts, sampled, config)
    composed = compose(loop, index, selected, made, config)
    has_generated = composed.figures["generated"] > 0
    return training_pairs(loop, index, tables.pairs, has_generated), composed.digest


def _baseline(
    loop: Loop,
    tables: Tables,
    initial: Policy,
    reference: Policy,
    steps: int,
    evaluate: Callable[[str, Policy, Policy, dict[str, str]], StageRecord],
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
    evaluate("baseline/evaluate", policy, reference, {initial.name: INITIAL})


def _evaluator(loop: Loop, tables: Tables, reference: Policy) -> Callable[..., StageRecord]:
    config = loop.config.evaluation
    prompts = evaluation_prompts(tables.heldout_prompts, config, loop.seed("evaluation prompts"))

    def evaluate(name: str, policy: Policy, against: Policy, rivals: dict[str, str]) -> StageRecord:
        return evaluate_stage(
            loop,
            name,
            policy=policy,
            reference=reference,
            measured_against=against,
            prompts=prompts,
            heldout=tables.heldout,
            data_digest=tables.digest,
            rivals=rivals if loop.scorer is not None and len(prompts) else {},
        )

    return evaluate


def _gain(index: int, figures: dict[str, Any]) -> RoundGain:
    rate = figures["win_rates"].get(f"round {index - 1}")
    return RoundGain(index, figures["heldout_accuracy"], None if rate is None else rate["mean"])


def _scorer(run: Run, config: RunConfig, given: Scorer | None) -> Scorer | None:
    if given is not None:
        return given
    if config.evaluation.scorer is not None:
        return load_scorer(config.evaluation.scorer)
    return load_world(run.path(WORLD)).score if config.world is not None else None


def _versions() -> dict[str, str]:
    packages = ("seralign", "torch", "transformers", "peft", "accelerate", "datasets")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}

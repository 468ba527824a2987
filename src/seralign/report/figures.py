"""All figures of a run, gathered from its stage records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from seralign.config.objective import plain_name
from seralign.errors import StoreError
from seralign.intervals import Interval
from seralign.report.notes import run_notes
from seralign.report.record import EvaluatedPolicy, RoundFigures, RunFigures, StageCost
from seralign.report.trainings import training_losses
from seralign.report.warnings import run_warnings
from seralign.runs import Run, StageRecord, read_manifest
from seralign.runs.data_figures import DataFigures
from seralign.runs.figures import (
    BaseFigures,
    BootstrapFigures,
    ComposeFigures,
    CrossfitFigures,
    DecideFigures,
    EvaluateFigures,
    Metrics,
    PoliciesFigures,
    ResultFigures,
    SampleFigures,
    ScoreFigures,
    SelectFigures,
    TokensFigures,
    TrainFigures,
)
from seralign.runs.layout import (
    BASE,
    BASELINE,
    BOOTSTRAP,
    COMPOSE,
    CROSSFIT,
    DATA,
    DECIDE,
    EVALUATE,
    INITIAL,
    METRICS,
    POLICIES,
    RESULT,
    SAMPLE,
    SCORE,
    SELECT,
    SFT,
    TOKENS,
    TRAIN,
    evaluation,
    round_name,
    round_of,
    round_stage,
    training,
)
from seralign.runs.typed import to_json

Figures = TypeVar("Figures")


def run_figures(run: Run, win_rates: Mapping[str, Mapping[str, Interval]] | None = None) -> RunFigures:
    """The figures of a run, finished or not.

    Args:
        run: The run.
        win_rates: Win rates by policy and rival, where the result's stage has not recorded them yet.

    Raises:
        StoreError: a record or a file of metrics is missing or corrupt, or of another version.
    """
    records = {record.name: record for record in run.stages()}
    config = read_manifest(run.root)["config"]

    def of(stage: str, kind: type[Figures]) -> Figures | None:
        return run.read_figures(records[stage], kind) if stage in records else None

    result, policies = of(RESULT, ResultFigures), of(POLICIES, PoliciesFigures)
    rates = win_rates or ({} if result is None else result.win_rates)
    rounds = tuple(_round(run, index, records) for index in _rounds(records))
    decisions = [entry.decide for entry in rounds if entry.decide is not None]
    evaluated = []
    for role in (INITIAL, BASELINE, *(round_name(entry.index) for entry in rounds)):
        if found := of(evaluation(role), EvaluateFigures):
            evaluated.append(
                EvaluatedPolicy(role, replace(found, win_rates=found.win_rates | dict(rates.get(found.name, {}))))
            )
    metrics = training_metrics(run)
    rewarded = config.get("rlhf")
    objective = plain_name(config["objective"]) if rewarded is None else rewarded["method"]
    figures = RunFigures(
        run=str(run.root),
        objective=objective,
        method=(config["bootstrap"] or {}).get("method", "sera"),
        data=of(DATA, DataFigures),
        crossfit=of(CROSSFIT, CrossfitFigures),
        base=of(BASE, BaseFigures),
        model=None if policies is None else policies.base,
        initial=None if policies is None else policies.initial,
        reference=None if policies is None else policies.reference,
        policies=tuple(evaluated),
        rounds=rounds,
        stopped=decisions[-1].reason if decisions else None,
        result=result,
        trainings=training_losses(metrics, objective),
        stages=tuple(StageCost(one.name, one.seconds, one.peak_memory_mb) for one in records.values()),
    )
    return replace(figures, notes=run_notes(figures, config), warnings=run_warnings(figures, metrics))


def figures_json(figures: RunFigures) -> dict[str, Any]:
    """The figures by name as plain JSON values: those of ``seralign show --json``.

    Each round has the figures of its stages but the evaluation, which is among ``policies``.
    """
    content = to_json(figures)
    content["finished"] = figures.finished
    content["policies"] = [{"role": policy["role"], **policy["figures"]} for policy in content["policies"]]
    for entry in content["rounds"]:
        entry["round"] = entry.pop("index")
        del entry["evaluate"]
    return content


def training_metrics(run: Run) -> dict[str, list[Metrics]]:
    """The lines of ``metrics.jsonl`` of each finished training: ``sft``, ``round 1``, ..., ``baseline``.

    Raises:
        StoreError: a file is missing or corrupt.
    """
    stages = {"sft": SFT} | {f"round {index}": round_stage(index, TRAIN) for index in round_numbers(run)}
    found = {}
    for name, stage in (stages | {"baseline": training(BASELINE)}).items():
        if run.exists(stage):
            path = run.path(stage, METRICS)
            try:
                found[name] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            except (OSError, ValueError) as error:
                raise StoreError(
                    f"{path}: {error}. Delete the folder {path.parent} and all later stages; the same command makes "
                    "them again"
                ) from None
    return found


def round_numbers(run: Run) -> list[int]:
    """The rounds that have finished a stage."""
    return _rounds({record.name: record for record in run.stages()})


def _rounds(records: Mapping[str, StageRecord]) -> list[int]:
    return sorted({index for name in records if (index := round_of(name)) is not None})


def _round(run: Run, index: int, records: Mapping[str, StageRecord]) -> RoundFigures:
    def of(part: str, kind: type[Figures]) -> Figures | None:
        record = records.get(round_stage(index, part))
        return None if record is None else run.read_figures(record, kind)

    return RoundFigures(
        index=index,
        score=of(SCORE, ScoreFigures),
        select=of(SELECT, SelectFigures),
        sample=of(SAMPLE, SampleFigures),
        bootstrap=of(BOOTSTRAP, BootstrapFigures),
        compose=of(COMPOSE, ComposeFigures),
        train=of(TRAIN, TrainFigures),
        evaluate=of(EVALUATE, EvaluateFigures),
        tokens=of(TOKENS, TokensFigures),
        decide=of(DECIDE, DecideFigures),
    )

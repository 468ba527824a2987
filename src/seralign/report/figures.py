"""All figures of a run by name, gathered from its stage records."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from seralign.config.objective import plain_name
from seralign.errors import StoreError
from seralign.report.trainings import training_losses
from seralign.report.warnings import run_warnings
from seralign.runs import Run, StageRecord, read_manifest
from seralign.tables import counted

# How the note of a run begins that has no result yet; the page says it in a place of its own.
UNFINISHED = "The run has not finished"

# With fewer pairs or answers, a share of one half has an interval of 40 points or more.
FEW = 20

_ROUND_STAGES = ("score", "select", "sample", "bootstrap", "compose", "train", "tokens", "decide")


def run_figures(run: Run, win_rates: dict[str, Any] | None = None) -> dict[str, Any]:
    """The figures of a run, finished or not, as plain JSON values.

    Keys: ``run``, ``finished``, ``objective``, ``data``, ``crossfit`` (null without one), ``base`` (what came of
    merging an adapter into the model; null where none was), ``initial`` and ``reference`` (name, source and digest of
    the starting policy and of the reference), ``policies`` (the starting policy, the baseline, each round: evaluation
    figures, ``win_rates`` by rival, and ``role``), ``rounds`` (the figures of each round's stages, by stage; null for
    one that is not there), ``stopped``, ``result``, ``trainings``
    (``seralign.report.trainings.training_losses``), ``stages`` (seconds and peak memory), ``notes`` (what the run
    lacks, in words), ``warnings`` (``seralign.report.warnings.RunWarning``).

    Args:
        run: The run.
        win_rates: Win rates by policy and rival, where the result's stage has not recorded them yet.
    """
    records = {record.name: record for record in run.stages()}
    config = read_manifest(run.root)["config"]
    result = records.get("result")
    rates = win_rates or (result.figures["win_rates"] if result else {})
    rounds = round_numbers(run)
    decisions = [records[f"round-{index}/decide"] for index in rounds if f"round-{index}/decide" in records]
    figures = {
        "run": str(run.root),
        "finished": result is not None,
        "objective": plain_name(config["objective"]),
        "data": _figures(records.get("data")),
        "crossfit": _figures(records.get("crossfit/review")) or None,
        "base": _figures(records.get("base")) or None,
        "initial": _figures(records.get("policies")).get("initial"),
        "reference": _figures(records.get("policies")).get("reference"),
        "policies": [
            record.figures
            | {"role": name, "win_rates": record.figures["win_rates"] | rates.get(record.figures["name"], {})}
            for name in ["initial", "baseline", *(f"round-{index}" for index in rounds)]
            if (record := records.get(f"{name}/evaluate")) is not None
        ],
        "rounds": [_round(index, records) for index in rounds],
        "stopped": _figures(decisions[-1] if decisions else None).get("reason"),
        "result": None if result is None else {"policy": result.figures["policy"], "digest": result.figures["digest"]},
        "stages": [
            {"name": record.name, "seconds": record.seconds, "peak_memory_mb": record.peak_memory_mb}
            for record in records.values()
        ],
    }
    training = training_metrics(run)
    figures["trainings"] = training_losses(training, figures["objective"])
    figures["notes"] = _notes(figures, config)
    figures["warnings"] = [asdict(warning) for warning in run_warnings(figures, training)]
    return figures


def training_metrics(run: Run) -> dict[str, list[dict[str, Any]]]:
    """The lines of ``metrics.jsonl`` of each finished training: ``sft``, ``round 1``, ..., ``baseline``.

    Raises:
        StoreError: a file is missing or corrupt.
    """
    stages = {"sft": "sft"} | {f"round {index}": f"round-{index}/train" for index in round_numbers(run)}
    found = {}
    for name, stage in (stages | {"baseline": "baseline/train"}).items():
        if run.exists(stage):
            path = run.path(stage, "metrics.jsonl")
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
    names = [record.name.split("/")[0] for record in run.stages()]
    return sorted({int(name.removeprefix("round-")) for name in names if name.startswith("round-")})


def _round(index: int, records: dict[str, StageRecord]) -> dict[str, Any]:
    return {"round": index} | {
        stage: _figures(records.get(f"round-{index}/{stage}")) or None for stage in _ROUND_STAGES
    }


def _figures(record: StageRecord | None) -> dict[str, Any]:
    return {} if record is None else record.figures


def _notes(figures: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """What a reader could look for in vain, and why it is not there."""
    notes = []
    stages, rounds, policies = figures["stages"], figures["rounds"], figures["policies"]
    if not figures["finished"]:
        last = f"the last stage done is {stages[-1]['name']}" if stages else "no stage is done"
        notes.append(f"{UNFINISHED}: {last}. The same command goes on with it.")
    if not any(entry["train"] for entry in rounds):
        notes.append("No round has been trained yet.")
    elif figures["objective"] == "sft":
        notes.append("The objective is sft: no pairs are ranked, so there are no margins and no rewards.")
    elif config["rounds"] == 1:
        notes.append("One round: no pairs were reviewed, selected or generated.")
    elif config["bootstrap"] is None:
        notes.append("No generated pairs: bootstrap is null.")
    for entry in rounds:
        if entry["bootstrap"] and not entry["bootstrap"]["pairs"]:
            why = counted(entry["bootstrap"]["left_out"]) or "no prompts"
            notes.append(f"Round {entry['round']} made no pairs: {why}.")
    if policies and not any(policy["n"] for policy in policies):
        notes.append("No answers were sampled: evaluation.prompts is 0, or nothing is held out.")
    elif policies and not any(policy["score"] for policy in policies):
        notes.append("No scorer: there are no scores and no win rates (evaluation.scorer).")
    notes += _few(figures)
    if figures["data"] and not figures["data"]["heldout"] and figures["objective"] == "sft":
        notes.append("Nothing is held out: the loss on texts that it was not trained on is not known.")
    elif figures["data"] and not figures["data"]["heldout"]:
        notes.append("No held-out pairs: how the policies rank pairs that they were not trained on is not known.")
    return notes


def _few(figures: dict[str, Any]) -> list[str]:
    """A caution where held-out figures are of so few that they say next to nothing."""
    heldout = (figures["data"] or {}).get("heldout", 0)
    answers = max((policy["n"] for policy in figures["policies"]), default=0)
    found = [(heldout, "pair", "held out"), (answers, "answer", "to held-out prompts")]
    few = [f"{count} {what}{'' if count == 1 else 's'} {whence}" for count, what, whence in found if 0 < count < FEW]
    if not few:
        return []
    return [
        f"Only {' and '.join(few)}: held-out figures of so few are mostly chance. Hold out more pairs "
        "(data.heldout_fraction, data.heldout), and have more prompts answered (evaluation.prompts)."
    ]

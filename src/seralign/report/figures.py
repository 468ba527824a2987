"""All figures of a run by name, gathered from its stage records."""

from __future__ import annotations

from typing import Any

from seralign.store import Run, StageRecord, read_manifest


def run_figures(run: Run, win_rates: dict[str, Any] | None = None) -> dict[str, Any]:
    """The figures of a run, finished or not, as plain JSON values.

    Keys: ``run``, ``finished``, ``objective``, ``data``, ``reference``, ``policies`` (the starting policy, the
    baseline, each round: evaluation figures, ``win_rates`` by rival, and ``role``), ``rounds`` (what was kept,
    generated, trained), ``stopped``, ``result``, ``stages`` (seconds and peak memory).

    Args:
        run: The run.
        win_rates: Win rates by policy and rival, where the result's stage has not recorded them yet.
    """
    records = {record.name: record for record in run.stages()}
    config = read_manifest(run.root)["config"]
    result = records.get("result")
    rates = win_rates or (result.figures["win_rates"] if result else {})
    rounds = sorted({int(name.split("/")[0][6:]) for name in records if name.startswith("round-")})
    decisions = [records[f"round-{index}/decide"] for index in rounds if f"round-{index}/decide" in records]
    return {
        "run": str(run.root),
        "finished": result is not None,
        "objective": config["objective"]["name"],
        "data": _figures(records.get("data")),
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


def _round(index: int, records: dict[str, StageRecord]) -> dict[str, Any]:
    stages = ("score", "select", "sample", "bootstrap", "compose", "train", "decide")
    return {"round": index} | {stage: _figures(records.get(f"round-{index}/{stage}")) or None for stage in stages}


def _figures(record: StageRecord | None) -> dict[str, Any]:
    return {} if record is None else record.figures

"""How runs differ: their configurations, their figures, and which figures cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from seralign.config import load_config, to_dict
from seralign.report.contents import RunContents
from seralign.report.summary import ACCURACY_TILE, tiles
from seralign.runs.figures import NamedPolicy
from seralign.tables import ABSENT, Table

# What a mark behind a name in the table of the runs points to.
MARK = " *"


def differences(runs: Sequence[RunContents]) -> Table:
    """The configuration's keys whose values are not the same in all runs.

    A key that a run does not have is null in it: where one run has ``policy.lora: null`` and another
    ``policy.lora.r: 16``, the second key alone differs.
    """
    flat = [dict(_flat(_resolved(run.config))) for run in runs]
    keys = list(dict.fromkeys(key for values in flat for key in values))
    apart = [key for key in keys if len({json.dumps(values.get(key)) for values in flat}) > 1]
    rows = tuple((key, *(_shown(values, key) for values in flat)) for key in apart)
    return Table("Keys of the configuration that differ", ("key", *(run.name for run in runs)), rows)


def comparison(runs: Sequence[RunContents]) -> Table:
    """The figures that are read first, of each run."""
    found = [{tile.label: f"{tile.value} {tile.interval}".rstrip() for tile in tiles(run)} for run in runs]
    labels = dict.fromkeys(label for values in found for label in values)
    marked = {name for _, names in _apart(runs) for name in names}
    rows = tuple(
        (label + (MARK if label.split(" against ")[0] in marked else ""), *(one.get(label, ABSENT) for one in found))
        for label in labels
    )
    return Table("The runs side by side", ("", *(run.name for run in runs)), rows)


def cautions(runs: Sequence[RunContents]) -> list[str]:
    """Why figures of these runs cannot be compared, a sentence for each reason; ``comparison`` marks those figures."""
    return [sentence for sentence, _ in _apart(runs)]


def _apart(runs: Sequence[RunContents]) -> list[tuple[str, tuple[str, ...]]]:
    """What differs between these runs, as sentences, and which figures it affects."""
    prompts = [max((policy.figures.n for policy in run.figures.policies), default=None) for run in runs]
    heldout = [None if run.figures.data is None else run.figures.data.heldout for run in runs]
    starts = [_digest(run.figures.initial) for run in runs]
    references = [_digest(run.figures.reference) for run in runs]
    scorers = [_scorer(run.config) for run in runs]
    judges = [_judge(run.config) for run in runs]
    found = []
    if _differ(prompts):
        found.append((
            f"The runs answered different numbers of held-out prompts ({_each(runs, prompts)}): distinct-2 falls with "
            "the number of answers and cannot be compared, and the other figures are not of the same prompts.",
            ("Wins", "Score", "Distance from the reference", "Answer length"),
        ))  # fmt: skip
    if _differ(heldout):
        found.append((
            f"The held-out pairs differ ({_each(runs, heldout)}): held-out accuracies are not of the same pairs.",
            (ACCURACY_TILE,),
        ))  # fmt: skip
    if _differ(starts):
        found.append((
            f"The starting policies differ (weights {_each(runs, starts)}): wins against them cannot "
            "be compared.",
            ("Wins",),
        ))  # fmt: skip
    if _differ(references):
        found.append((
            f"The references differ (weights {_each(runs, references)}): distances from them (KL) and "
            "held-out accuracy, which is of margins against them, cannot be compared.",
            ("Distance from the reference", ACCURACY_TILE),
        ))  # fmt: skip
    if _differ(scorers):
        wins = ("Wins",) if None in judges else ()
        found.append((
            f"Scores come from different scorers (evaluation.scorer, world): they {'and wins ' if wins else ''}cannot "
            "be compared.",
            ("Score", *wins),
        ))  # fmt: skip
    if any(judge != judges[0] for judge in judges):
        found.append(("Wins come from different judges (evaluation.judge, evaluation.judge_options): they cannot be "
                      "compared.", ("Wins",)))  # fmt: skip
    return found


def _digest(policy: NamedPolicy | None) -> str | None:
    return None if policy is None else policy.digest


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose nulls are the values that they stand for, so that a default is no difference."""
    values = to_dict(load_config(None, config | {"out": "unused"}).resolved())
    return {key: value for key, value in values.items() if key != "out"}


def same_scorer(runs: Sequence[RunContents]) -> bool:
    """Whether scores of these runs come from the same scorer."""
    return not _differ([_scorer(run.config) for run in runs])


def _scorer(config: dict[str, Any]) -> Any:
    """What scores answers: the user's scorer, or the truth of a world, which does not depend on its labels."""
    world = config.get("world") or {}
    return config["evaluation"].get("scorer") or [world.get(key) for key in ("name", "seed", "own")]


def _judge(config: dict[str, Any]) -> list[Any] | None:
    """The judge and its settings; None if it is the scorer."""
    name = config["evaluation"].get("judge")
    return None if name in (None, "scorer") else [name, config["evaluation"].get("judge_options")]


def _differ(values: Sequence[Any]) -> bool:
    """Whether two runs have different values."""
    known = [value for value in values if value is not None]
    return any(value != known[0] for value in known)


def _each(runs: Sequence[RunContents], values: Sequence[Any]) -> str:
    shown = (ABSENT if value is None else value[:8] if isinstance(value, str) else f"{value:,}" for value in values)
    return ", ".join(f"{run.name}: {value}" for run, value in zip(runs, shown, strict=True))


def configuration(run: RunContents) -> Table:
    """The whole configuration, a key a row."""
    values = dict(_flat(run.config))
    rows = tuple((key, _shown(values, key)) for key in values)
    return Table("The configuration with all defaults", ("key", "value"), rows)


def _flat(config: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found


def _shown(values: dict[str, Any], key: str) -> str:
    if key not in values:
        return ABSENT
    value = values[key]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

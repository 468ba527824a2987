"""The figures of a study's finished cells, read from its folder, as what is compared and what is shown."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from seralign.errors import StoreError
from seralign.records import content_id
from seralign.runs.files import read_table
from seralign.studies.cells import FIGURES, GOLD, STUDY, Cell, Setting, is_finished, plan_study
from seralign.studies.compare import TEST, VALIDATION, Trial, Trials, compare_world
from seralign.studies.config import SUPERVISED, StudyConfig, study_from
from seralign.studies.later_rounds import Round, lasting
from seralign.studies.stopping import Seen, stopping

_RANKING = ("accuracy", "gold_accuracy", "margin_length_correlation", "margin_gold_correlation")


def read_study(root: str | Path) -> StudyConfig:
    """The study of a folder, as it was last run.

    Raises:
        StoreError: the folder holds no study.
    """
    path = Path(root) / STUDY
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{root}: no study here ({STUDY} is missing)") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None
    return study_from(values)


def study_figures(root: str | Path) -> dict[str, Any]:
    """All figures of a study, finished or not, by name, as JSON values.

    Keys: ``study``, ``cells`` and ``finished`` (numbers), ``seconds`` of all finished cells, ``baseline``,
    ``ceiling``, ``seeds``, ``stopping`` (``seralign.studies.stopping.stopping``, of all runs with three rounds or
    more) and ``worlds``: by name ``temperatures`` (the rows of
    ``seralign.studies.compare.compare_world`` by method), ``points`` (by temperature and method the mean KL and
    gold of each setting on test prompts) and, by method with several rounds, at the values that were chosen at
    temperature 1, ``rounds`` (what each round did) and ``lasting`` (``seralign.studies.later_rounds.lasting``).
    """
    root = Path(root)
    study = read_study(root)
    cells, settings = plan_study(study)
    finished = {cell.digest: _figures(cell, root) for cell in cells if is_finished(cell, root)}
    gold = {cell.digest: cell.folder(root) / GOLD for cell in cells}
    worlds = {
        world: _world(study, [each for each in settings if each.world == world], finished, gold)
        for world in study.worlds
    }
    return {
        "study": str(root),
        "cells": len(cells),
        "finished": len(finished),
        "seconds": sum(sum(each["seconds"].values()) for each in finished.values()),
        "baseline": study.baseline,
        "ceiling": study.ceiling,
        "seeds": study.seeds,
        "stopping": stopping(_long_runs(cells, finished)),
        "worlds": worlds,
    }


def read_trials(
    settings: Iterable[Setting], finished: Mapping[str, Any], gold: Mapping[str, Path]
) -> dict[str, dict[str, dict[int, Trial]]]:
    """Trials by method, setting and seed; settings that only look at a round, and seeds not done, are left out."""
    read = cache(_gold)
    methods: dict[str, dict[str, dict[int, Trial]]] = defaultdict(dict)
    prompts: dict[int, str] = {}
    for setting in settings:
        if not setting.compared:
            continue
        trials = methods[setting.method].setdefault(setting.label, {})
        for seed, digest in setting.cells.items():
            if digest in finished:
                found = finished[digest]["policies"][setting.ask.key]
                if prompts.setdefault(seed, found["prompts"]) != found["prompts"]:
                    raise StoreError(f"{gold[digest]}: its answers are to other prompts; delete {gold[digest].parent}")
                trials[seed] = _trial(found, read(gold[digest])[setting.ask.key])
    return dict(methods)


def _world(
    study: StudyConfig, settings: Sequence[Setting], finished: Mapping[str, Any], gold: Mapping[str, Path]
) -> dict[str, Any]:
    methods = read_trials(settings, finished, gold)
    rows = {
        str(temperature): compare_world(
            methods,
            supervised=SUPERVISED,
            baseline=study.baseline,
            ceiling=study.ceiling,
            temperature=temperature,
        )
        for temperature in study.temperatures
    }
    points = {
        str(temperature): {name: _points(trials, temperature) for name, trials in methods.items()}
        for temperature in study.temperatures
    }
    chosen = {name: row["setting"] for name, row in rows["1.0"].items()}
    rounds = _rounds(settings, chosen, finished)
    lengths = _lengths(settings, (SUPERVISED, study.baseline), finished)
    return {
        "temperatures": rows,
        "points": points,
        "rounds": {
            name: {f"round-{number}": _mean(list(found.values())) for number, found in by_round.items()}
            for name, by_round in rounds.items()
        },
        "lasting": {name: lasting(by_round, lengths) for name, by_round in rounds.items()},
    }


def _points(trials: Trials, temperature: float) -> dict[str, list[float]]:
    """Mean KL and gold of each setting on test prompts."""
    found = {}
    for label, seeds in trials.items():
        points = [trial.point(TEST, temperature) for trial in seeds.values()]
        if points:
            found[label] = np.mean(points, axis=0).tolist()
    return found


def _rounds(
    settings: Sequence[Setting], chosen: Mapping[str, str], finished: Mapping[str, Any]
) -> dict[str, dict[int, dict[int, Round]]]:
    """What each round did in each seed, by method, round and seed, at the method's chosen values."""
    values = {each.method: each.values for each in settings if chosen.get(each.method) == each.label}
    found: dict[str, dict[int, dict[int, Round]]] = defaultdict(dict)
    for setting in settings:
        several = sum(each.method == setting.method and each.values == setting.values for each in settings) > 1
        if not several or setting.ask.draws > 1 or values.get(setting.method) != setting.values:
            continue
        number = int(setting.ask.policy.removeprefix("round-"))
        done = {seed: finished[digest] for seed, digest in setting.cells.items() if digest in finished}
        found[setting.method][number] = {seed: _round(cell, setting.ask.policy) for seed, cell in done.items()}
    return dict(found)


def _lengths(
    settings: Sequence[Setting], methods: Sequence[str], finished: Mapping[str, Any]
) -> dict[int, list[tuple[float, float]]]:
    """KL and length of the answers of some methods' settings, by seed; seeds that have them all."""
    found: dict[int, list[tuple[float, float]]] = {}
    asked = [each for each in settings if each.method in methods and each.compared]
    for seed in {seed for setting in asked for seed in setting.cells}:
        cells = [(finished.get(setting.cells[seed]), setting.ask.key) for setting in asked]
        measured = [cell["policies"][key][TEST] for cell, key in cells if cell is not None]
        if len(measured) == len(cells):
            found[seed] = [(each["kl"], each["1.0"]["length"]) for each in measured]
    return found


def _round(cell: Mapping[str, Any], policy: str) -> Round:
    measured = cell["policies"][policy][TEST]
    answers = {temperature: values for temperature, values in measured.items() if temperature != "kl"}
    ranking = cell["policies"][policy]["ranking"]
    return {"kl": measured["kl"], "answers": answers, "ranking": ranking} | cell.get("rounds", {}).get(policy, {})


def _long_runs(cells: Sequence[Cell], finished: Mapping[str, Any]) -> list[list[Seen]]:
    """The runs of three rounds or more, without those that are how a longer one begins."""
    runs: dict[str, list[Seen]] = {}
    for cell in cells:
        if cell.digest in finished:
            keys = {key: value for key, value in (cell.overrides or {}).items() if key != "rounds"}
            name, run = content_id([cell.world, keys]), _seen(finished[cell.digest])
            if len(run) > max(2, len(runs.get(name, []))):
                runs[name] = run
    return list(runs.values())


def _seen(cell: Mapping[str, Any]) -> list[Seen]:
    """The rounds of a run, in order; none where it was measured by its result alone."""
    names = [name for number in range(1, len(cell["policies"]) + 1) if (name := f"round-{number}") in cell["policies"]]
    rounds = [_round(cell, name) for name in names]
    return [
        Seen(each["ranking"]["accuracy"], each["kl"], {at: answers["gold"] for at, answers in each["answers"].items()})
        for each in rounds
    ]


def _mean(values: Sequence[Any]) -> Any:
    """The mean of nested figures, leaf by leaf; None where one of them is None."""
    if not values or any(value is None for value in values):
        return None
    if isinstance(values[0], Mapping):
        return {key: _mean([value[key] for value in values]) for key in values[0]}
    return float(np.mean(values))


def _trial(found: Mapping[str, Any], gold: Mapping[tuple[str, float], np.ndarray]) -> Trial:
    ranking = {name: found["ranking"][name] for name in _RANKING}
    temperatures = {float(name): values for name, values in found[TEST].items() if name != "kl"}
    return Trial(
        kl={split: found[split]["kl"] for split in (VALIDATION, TEST)},
        gold=gold,
        figures={temperature: values | ranking for temperature, values in temperatures.items()},
    )


def _figures(cell: Cell, root: Path) -> dict[str, Any]:
    return json.loads((cell.folder(root) / FIGURES).read_text(encoding="utf-8"))


def _gold(path: Path) -> dict[str, dict[tuple[str, float], np.ndarray]]:
    """Rewards [P] by policy, split and temperature."""
    table = read_table(path)
    names, splits = (np.array(table[name].to_pylist()) for name in ("policy", "split"))
    temperatures, values = (table[name].to_numpy() for name in ("temperature", "gold"))
    found: dict[str, dict[tuple[str, float], np.ndarray]] = defaultdict(dict)
    for name in dict.fromkeys(names.tolist()):
        for split in (VALIDATION, TEST):
            for temperature in dict.fromkeys(temperatures.tolist()):
                mine = (names == name) & (splits == split) & (temperatures == temperature)
                found[name][split, float(temperature)] = values[mine]
    return dict(found)

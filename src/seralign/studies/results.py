"""The figures of a study, from the files of its finished cells."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from seralign.errors import StoreError
from seralign.records import content_id
from seralign.runs.files import read_table
from seralign.runs.layout import round_name, round_of
from seralign.runs.typed import from_json, to_json
from seralign.studies.cells import FIGURES, GOLD, STUDY, Cell, Setting, is_finished, plan_study
from seralign.studies.compare import TEST, VALIDATION, Trial, Trials, compare_world
from seralign.studies.config import SUPERVISED, StudyConfig, study_from
from seralign.studies.figures import (
    CellFigures,
    PolicyFigures,
    RoundFigures,
    SettingFigures,
    StudyFigures,
    WorldFigures,
    mean_of,
)
from seralign.studies.later_rounds import later_rounds
from seralign.studies.reward_curve import seed_curves
from seralign.studies.stopping import Seen, stopping


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


def study_figures(root: str | Path) -> StudyFigures:
    """All figures of a study, finished or not.

    Raises:
        StoreError: the folder holds no study, or a file of a cell cannot be read.
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
    return StudyFigures(
        study=str(root),
        cells=len(cells),
        finished=len(finished),
        seconds=sum(sum(each.seconds.values()) for each in finished.values()),
        baseline=study.baseline,
        ceiling=study.ceiling,
        seeds=tuple(study.seeds),
        stopping=stopping(_long_runs(cells, finished)),
        worlds=worlds,
    )


def read_trials(
    settings: Iterable[Setting], finished: Mapping[str, CellFigures], gold: Mapping[str, Path]
) -> dict[str, dict[str, dict[int, Trial]]]:
    """Trials by method, setting and seed; settings that only look at a round, and seeds not done, are left out."""
    read = cache(_gold)
    methods: dict[str, dict[str, dict[int, Trial]]] = defaultdict(dict)
    prompts: dict[int, dict[str, str]] = {}
    for setting in settings:
        if not setting.compared:
            continue
        trials = methods[setting.method].setdefault(setting.label, {})
        for seed, digest in setting.cells.items():
            if digest in finished:
                found = finished[digest].policies[setting.ask.key]
                if prompts.setdefault(seed, found.prompts) != found.prompts:
                    raise StoreError(f"{gold[digest]}: its answers are to other prompts; delete {gold[digest].parent}")
                trials[seed] = _trial(found, read(gold[digest])[setting.ask.key])
    return dict(methods)


def _world(
    study: StudyConfig, settings: Sequence[Setting], finished: Mapping[str, CellFigures], gold: Mapping[str, Path]
) -> WorldFigures:
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
    chosen = {name: row.setting for name, row in rows["1.0"].items()}
    rounds = _rounds(settings, chosen, finished)
    lengths = _lengths(settings, (SUPERVISED, study.baseline), finished)
    return WorldFigures(
        temperatures=rows,
        points=points,
        rounds={
            name: {round_name(number): mean_of(list(found.values())) for number, found in by_round.items()}
            for name, by_round in rounds.items()
        },
        later_rounds={name: later_rounds(by_round, lengths) for name, by_round in rounds.items()},
        settings=_settings(settings, finished),
        curves=seed_curves(settings, finished),
    )


def _points(trials: Trials, temperature: float) -> dict[str, tuple[float, float]]:
    """Mean KL and gold of each setting on test prompts."""
    found = {}
    for label, seeds in trials.items():
        points = [trial.point(TEST, temperature) for trial in seeds.values()]
        if points:
            kl, gold = np.mean(points, axis=0).tolist()
            found[label] = (kl, gold)
    return found


def _settings(settings: Sequence[Setting], finished: Mapping[str, CellFigures]) -> dict[str, dict[str, SettingFigures]]:
    """Each compared setting seed by seed, by method and setting."""
    found: dict[str, dict[str, SettingFigures]] = defaultdict(dict)
    for setting in settings:
        done = {str(seed): finished[digest] for seed, digest in setting.cells.items() if digest in finished}
        if not setting.compared or not done:
            continue
        tests = {seed: cell.policies[setting.ask.key].test for seed, cell in done.items()}
        costs = [cell.cost for cell in done.values() if cell.cost is not None]
        found[setting.method][setting.label] = SettingFigures(
            kl={seed: test.kl for seed, test in tests.items()},
            gold={seed: test.answers["1.0"].gold for seed, test in tests.items()},
            unfinished={seed: test.answers["1.0"].unfinished for seed, test in tests.items()},
            cost=mean_of(costs),
        )
    return dict(found)


def _rounds(
    settings: Sequence[Setting], chosen: Mapping[str, str], finished: Mapping[str, CellFigures]
) -> dict[str, dict[int, dict[int, RoundFigures]]]:
    """What each round did in each seed, by method, round and seed, at the method's chosen values."""
    values = {each.method: each.values for each in settings if chosen.get(each.method) == each.label}
    found: dict[str, dict[int, dict[int, RoundFigures]]] = defaultdict(dict)
    for setting in settings:
        several = sum(each.method == setting.method and each.values == setting.values for each in settings) > 1
        if not several or setting.ask.draws > 1 or values.get(setting.method) != setting.values:
            continue
        number = round_of(setting.ask.policy)
        assert number is not None
        done = {seed: finished[digest] for seed, digest in setting.cells.items() if digest in finished}
        found[setting.method][number] = {seed: _round(cell, setting.ask.policy) for seed, cell in done.items()}
    return dict(found)


def _lengths(
    settings: Sequence[Setting], methods: Sequence[str], finished: Mapping[str, CellFigures]
) -> dict[int, list[tuple[float, float]]]:
    """KL and length of the answers of some methods' settings, by seed; seeds that have them all."""
    found: dict[int, list[tuple[float, float]]] = {}
    asked = [each for each in settings if each.method in methods and each.compared]
    for seed in {seed for setting in asked for seed in setting.cells}:
        cells = [(finished.get(setting.cells[seed]), setting.ask.key) for setting in asked]
        measured = [cell.policies[key].test for cell, key in cells if cell is not None]
        if len(measured) == len(cells):
            found[seed] = [(each.kl, each.answers["1.0"].length) for each in measured]
    return found


def _round(cell: CellFigures, policy: str) -> RoundFigures:
    measured = cell.policies[policy]
    return RoundFigures(measured.test, measured.ranking, cell.rounds.get(policy))


def _long_runs(cells: Sequence[Cell], finished: Mapping[str, CellFigures]) -> list[list[Seen]]:
    """The runs of three rounds or more, without those that are the first rounds of a longer one."""
    runs: dict[str, list[Seen]] = {}
    for cell in cells:
        if cell.digest in finished:
            keys = {key: value for key, value in (cell.overrides or {}).items() if key != "rounds"}
            name, run = content_id([cell.world, keys]), _seen(finished[cell.digest])
            if len(run) > max(2, len(runs.get(name, []))):
                runs[name] = run
    return list(runs.values())


def _seen(cell: CellFigures) -> list[Seen]:
    """The rounds of a run, in order; none where it was measured by its result alone."""
    names = [name for number in range(1, len(cell.policies) + 1) if (name := round_name(number)) in cell.policies]
    rounds = [_round(cell, name) for name in names]
    found = []
    for each in rounds:
        assert each.ranking.accuracy is not None  # a world always has test pairs
        golds = {at: one.gold for at, one in each.test.answers.items()}
        found.append(Seen(each.ranking.accuracy, each.test.kl, golds))
    return found


def _trial(found: PolicyFigures, gold: Mapping[tuple[str, float], np.ndarray]) -> Trial:
    truth = found.ranking.truth
    ranking = {
        "accuracy": found.ranking.accuracy,
        "gold_accuracy": truth.gold_accuracy,
        "margin_length_correlation": truth.margin_length_correlation,
        "margin_gold_correlation": truth.margin_gold_correlation,
    }
    return Trial(
        kl={VALIDATION: found.validation.kl, TEST: found.test.kl},
        gold=gold,
        figures={float(name): to_json(answers) | ranking for name, answers in found.test.answers.items()},
    )


def _figures(cell: Cell, root: Path) -> CellFigures:
    path = cell.folder(root) / FIGURES
    try:
        # Cells that were measured before costs were counted have none; their other figures count.
        return from_json(CellFigures, {"cost": None} | json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: cannot be read: {error}. Delete the folder {path.parent}, and run it again"
        ) from None


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

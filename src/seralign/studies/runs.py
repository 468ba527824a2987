"""The run of a cell: its world, its supervised policy, its training, and its measurements.

worlds/DIGEST/world/, data/        a world; its validation and test prompts and pairs as tokens
supervised/DIGEST/run/             a supervised policy
cache/DIGEST.sqlite                log-probabilities under a supervised policy, for all runs that start from it
cache/samples.sqlite               responses of the policy of worlds of one's own, for all that differ only in labels
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from seralign.config import RunConfig, SourceConfig
from seralign.data.table_columns import example_ids
from seralign.evaluation.scorer import ScoreFunction, Scorer, make_scorer
from seralign.laboratory.world import load_world, read_truth
from seralign.pipeline import train
from seralign.pipeline.context import Loop, Policy, run_stage
from seralign.pipeline.data import data_inputs, read_tables, write_tables
from seralign.pipeline.precision import settled
from seralign.pipeline.prepare import base_policy
from seralign.pipeline.world import with_world
from seralign.policy.abilities import packed_length
from seralign.policy.identity import PolicySource
from seralign.policy.load import end_tokens, load_tokenizer
from seralign.policy.saved import saved_digest
from seralign.progress import say
from seralign.rewards.reward_model import RewardModel, open_reward_model
from seralign.runs import Run, read_manifest
from seralign.runs.cache import LogpCache
from seralign.runs.files import write_json, write_table
from seralign.runs.layout import DATA, INITIAL, MANIFEST, POLICY, RESULT, WORLD, round_name, training
from seralign.runs.results import Results
from seralign.runs.typed import to_json
from seralign.studies.cell_config import cell_config
from seralign.studies.cells import (
    ABOUT,
    FIGURES,
    GOLD,
    RUN,
    Ask,
    Cell,
    Supervised,
    world_digest,
)
from seralign.studies.cost import run_cost
from seralign.studies.figures import CellFigures, CostFigures, PolicyFigures, RewardStep, RoundLabels
from seralign.studies.label_quality import round_labels
from seralign.studies.measure import Exam, measure
from seralign.studies.reward_curve import reward_curve
from seralign.studies.reward_names import with_reward_models

_PARTS = "parts"
# Sampled responses of the worlds of one's own.
SAMPLES = "cache/samples.sqlite"


def supervised_run(supervised: Supervised, root: Path) -> str:
    """The folder of a supervised policy, or of a reward model of one, trained unless it was."""
    if not supervised.is_trained(root):
        model = None if supervised.of is None else supervised_run(supervised.of, root)
        _train(_ready(supervised.overrides, root, supervised.folder(root) / RUN, model)[1])
    return str(supervised.policy(root))


def run_cell(cell: Cell, root: Path, keep: bool) -> None:
    """Run a cell with the code of ``seralign train``, measure it, and write its figures."""
    folder, began = cell.folder(root), time.monotonic()
    say(f"{folder}: {', '.join(sorted(cell.methods))}")
    write_json(folder / ABOUT, {"methods": sorted(cell.methods), "run": cell.overrides or cell.exam})
    model = None if cell.supervised is None else supervised_run(cell.supervised, root)
    keys = cell.overrides or cell.exam
    reward_models = [supervised_run(each, root) for each in cell.rewards]
    if reward_models:
        keys = with_reward_models(keys, reward_models)
    home, config = _ready(keys, root, folder / RUN, model)
    supervised = replace(base_policy(config), name="supervised")
    cache = root / "cache" / f"{supervised.digest[:16]}.sqlite"
    if config.rounds == 1 and config.scoring.cache is None:
        # One round needs log-probabilities under the supervised policy alone, the same in every cell. More rounds need
        # many that no other cell has.
        config = replace(config, scoring=replace(config.scoring, cache=str(cache)))
    rounds: dict[str, RoundLabels] = {}
    stages: dict[str, float] = {}
    curve: list[RewardStep] = []
    cost: CostFigures | None = None
    if cell.overrides is not None:
        run = Run(folder / RUN)
        resumed, used = (run.root / MANIFEST).is_file(), time.process_time()
        _train(config, load_world(home.path(WORLD)).score)
        used = time.process_time() - used
        rounds, stages = _labels(run, home, config), {record.name: record.seconds for record in run.stages()}
        curve = [] if config.rlhf is None else reward_curve(run, reward_models[0] if reward_models else None)
        cost = None if resumed else run_cost(run, config, curve, round(used, 2))
    trained_at = time.monotonic()
    with closing(LogpCache(cache)) as opened, closing(Results(folder / _PARTS / "results.sqlite")) as results:
        # Where nothing is trained, a reward model chooses among answers.
        chooser = open_reward_model(reward_models[0], "reward") if reward_models and cell.overrides is None else None
        policies, gold = _measured(cell, root, config, supervised, opened, results, chooser)
    write_table(folder / GOLD, gold)
    seconds = {"run": round(trained_at - began, 2), "measure": round(time.monotonic() - trained_at, 2)}
    write_json(folder / FIGURES, to_json(CellFigures(policies, rounds, stages, seconds, curve, cost)))
    for name in [_PARTS] if keep else [_PARTS, RUN]:
        _remove(folder / name)


def _train(config: RunConfig, scorer: ScoreFunction | None = None) -> None:
    """Train a run. If it was begun before the study was moved, it starts again, because its paths are invalid."""
    assert config.data.pairs is not None
    root = Path(config.out)
    if (root / MANIFEST).is_file():
        began = read_manifest(root)["config"]["data"]["pairs"]
        if began["path"] != config.data.pairs.path:
            _remove(root)
    train(config, scorer)


def _remove(folder: Path) -> None:
    """Rename a folder and delete it: if the process is killed, it is whole or has a name that nothing reads."""
    gone = folder.with_name(f"{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.exists():
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _ready(overrides: Mapping[str, Any], root: Path, out: Path, model: str | None) -> tuple[Run, RunConfig]:
    """The world that some keys name, made if it does not exist, and their run on it."""
    home = Run(root / "worlds" / world_digest(overrides))
    # Cells are compared with each other, whatever machine they run on, so their precision is fixed.
    given = settled(cell_config(overrides, out), "float32")
    with ExitStack() as held:
        held.enter_context(_waited(home.root))
        if given.world is not None and given.world.own is not None:
            # One process samples, and worlds that differ only in their labels find the same responses.
            held.enter_context(_waited(root / "worlds"))
        config = with_world(home, given, root / SAMPLES)
    # The held-out prompts of the world are the study's, not the run's.
    data = replace(config.data, heldout=given.data.heldout)
    if not config.objective.samples:  # a reward model answers no prompts
        data = replace(data, prompts=given.data.prompts)
    policy = replace(config.policy, model=model or config.policy.model)
    return home, replace(config, world=None, data=data, policy=policy)


def _labels(run: Run, home: Run, config: RunConfig) -> dict[str, RoundLabels]:
    """Right and wrong labels in each round after the first, by its name; of rounds with offline pairs."""
    if config.generates_all:
        return {}
    truth, scorer = read_truth(home.path(WORLD)), _gold(home)
    done = [index for index in range(2, config.rounds + 1) if run.exists(training(round_name(index)))]
    return {round_name(index): round_labels(run, index, truth, scorer) for index in done}


def _measured(
    cell: Cell,
    root: Path,
    config: RunConfig,
    supervised: Policy,
    cache: LogpCache,
    results: Results,
    chooser: RewardModel | None,
) -> tuple[dict[str, PolicyFigures], dict[str, list[Any]]]:
    """Figures of the policies that are measured, by name, and a table of the gold rewards of their answers."""
    home, asked = _ready(cell.exam, root, root, model=config.policy.model)
    tokenizer = load_tokenizer(supervised.source, config.policy)
    ends = end_tokens(supervised.source, tokenizer)
    objective, run = config.objective, Run(cell.folder(root) / RUN)
    length = packed_length(supervised.source, config.policy)
    # Prompts and sampling are the world's; the objective, which gives the implicit reward, is the run's.
    # The exam has demonstrations only if the objective cannot be without.
    shown = config.data.demonstrations if config.objective.joins_demonstrations else None
    data = replace(asked.data, demonstrations=shown)
    settings = replace(asked, objective=config.objective, policy=config.policy, data=data)
    loop = Loop(
        settings,
        run,
        tokenizer,
        ends,
        objective,
        packed_length=length,
        cache=cache,
        results=results,
        evaluated=results,
        scorer=_gold(home),
        judge=None,
    )
    exam = _exam(home, asked, loop)
    figures: dict[str, PolicyFigures] = {}
    gold: dict[str, list[Any]] = {"policy": [], "split": [], "temperature": [], "gold": []}
    for ask in sorted(cell.asks):
        policy = _policy(loop, ask, supervised)
        found = measure(loop, exam, ask, policy, supervised, cell.temperatures, chooser)
        figures[ask.key] = found.figures
        for (split, temperature), values in found.gold.items():
            for name, value in (("policy", ask.key), ("split", split), ("temperature", temperature)):
                gold[name] += [value] * len(values)
            gold["gold"] += values.tolist()
    return figures, gold


def _policy(loop: Loop, ask: Ask, supervised: Policy) -> Policy:
    """The policy to measure."""
    if ask.policy == INITIAL:
        return supervised
    stage, parts = (RESULT, ()) if ask.policy == RESULT else (training(ask.policy), (POLICY,))
    folder = loop.run.path(stage, *parts)
    is_adapter = (folder / "adapter_config.json").is_file()
    adapted = replace(supervised.source, adapter=str(folder))
    source = adapted if is_adapter else PolicySource(str(folder))
    return Policy(ask.policy, source, saved_digest(loop.run, stage))


def _exam(home: Run, config: RunConfig, loop: Loop) -> Exam:
    """The prompts and pairs that nothing is trained on, as tokens, in the world's folder."""

    def source(name: str) -> SourceConfig:
        return SourceConfig(str(home.path(WORLD, f"{name}.jsonl")))

    # Read like any data: test pairs in place of pairs, validation pairs in place of held-out pairs.
    data = replace(
        config.data, pairs=source("heldout"), heldout=source("validation"), prompts=None, demonstrations=None
    )
    # One round with a prompt: lengths are checked for the answers that are measured, not for those of rounds.
    asked = replace(config, data=data, rounds=1, evaluation=replace(config.evaluation, prompts=1))
    with _waited(home.root):
        how = (asked, loop.tokenizer, loop.end_tokens)
        run_stage(home, DATA, data_inputs(*how), partial(write_tables, *how))
        tables = read_tables(home)
    truth = read_truth(home.path(WORLD), "heldout").of(example_ids(tables.pairs))
    return Exam({"validation": tables.heldout_prompts, "test": tables.prompts}, tables.pairs, truth)


def _gold(home: Run) -> Scorer:
    return make_scorer(load_world(home.path(WORLD)).score, "gold", "world")


@contextmanager
def _waited(root: Path) -> Iterator[None]:
    """Lock a folder; other processes hold the lock for moments only."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

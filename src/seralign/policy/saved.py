"""Finds saved policies to ask, merge and publish: those of a run, and other models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from seralign.config import DataConfig, PolicyConfig, RunConfig, load_config
from seralign.config.supplied import supplied
from seralign.errors import ConfigError, ModelError, StoreError
from seralign.policy.admission import check_kind
from seralign.policy.bases import on_its_base
from seralign.policy.identity import PolicySource, fetch
from seralign.runs import Run, read_manifest, read_run
from seralign.runs.figures import ResultFigures, TrainFigures
from seralign.runs.layout import (
    BASE,
    BASELINE,
    MANIFEST,
    POLICY,
    RESULT,
    SFT,
    TRAIN,
    WORLD,
    round_of,
    round_stage,
    training,
)

Which = int | Literal["result", "start", "baseline"]

# The folder of the stage ``base`` with the merged model.
MERGED_MODEL = "model"
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class SavedPolicy:
    """A policy on disk, and how to load it.

    Args:
        name: Name in messages, such as ``round 2 of runs/first``.
        source: Local folders.
        folder: The folder that was saved last: the adapter, or the whole model.
        loading: How its tokenizer and its model are loaded.
        data: How its prompts become tokens.
        run: The run that trained it; None for another model.
        config: That run's configuration, completed from its world.
        stage: The stage of the run that saved it; None if the run started from it.
    """

    name: str
    source: PolicySource
    folder: Path
    loading: PolicyConfig
    data: DataConfig
    run: Run | None = None
    config: RunConfig | None = None
    stage: str | None = None


def saved_policy(place: str, which: Which = "result") -> SavedPolicy:
    """Find a policy by the place that a user gives.

    Args:
        place: A run's folder, a folder with a model or an adapter, or a model's name on the hub.
        which: Which policy of a run: its result, a round's, the starting policy, or the baseline.

    Raises:
        StoreError: the run does not have this policy yet; the message lists those that it has.
        ModelError: there is no model or adapter.
        ConfigError: a round is asked for, but there is no run.
    """
    if (Path(place) / MANIFEST).is_file():
        return run_policy(read_run(place), which)
    if which != "result":
        raise ConfigError(f"{place} is not a run (it has no run.json), so it has no {_named(which)}")
    if Path(place).is_dir() and not any((Path(place) / name).is_file() for name in (_ADAPTER, "config.json")):
        raise ModelError(f"{place} has no run (run.json), model (config.json) or adapter ({_ADAPTER})")
    return _model(place)


def run_policy(run: Run, which: Which = "result") -> SavedPolicy:
    """A policy of a run, finished or not.

    Raises:
        StoreError: the run does not have this policy yet; the message lists those that it has.
    """
    config = run_config(run)
    stages = _stages(run)
    if which not in stages:
        found = ", ".join(_named(other) for other in stages) or "none yet"
        raise StoreError(f"{run.root}: the run has no {_named(which)}; it has: {found}")
    stage = stages[which]
    name = f"{_named(which)} of {run.root}"
    if which == "result":
        name = f"{run.figures(RESULT, ResultFigures).policy} of {run.root}, its result"
    base = fetch(base_source(config))
    start = base if not run.exists(SFT) else trained_source(run.path(SFT, POLICY), base)
    if stage is None:
        return SavedPolicy(name, base, Path(base.adapter or base.model), config.policy, config.data, run, config)
    folder = run.path(stage) if stage == RESULT else run.path(stage, POLICY)
    source = trained_source(folder, base if stage == SFT else start)
    return SavedPolicy(name, source, folder, _own_tokenizer(folder, config.policy), config.data, run, config, stage)


def run_config(run: Run) -> RunConfig:
    """The configuration of a run, completed from its world, and with the merged model if it merged an adapter."""
    config = load_config(None, read_manifest(run.root)["config"] | {"out": str(run.root)})
    return on_merged(config if config.world is None else supplied(config, run.path(WORLD)), run)


def base_source(config: RunConfig) -> PolicySource:
    """The configured model (and adapter)."""
    return PolicySource(str(config.policy.model), config.policy.revision, config.policy.adapter)


def trained_source(folder: Path, start: PolicySource) -> PolicySource:
    """What a training that started from ``start`` saved in a folder: a whole model, or an adapter on the same model."""
    if not (folder / _ADAPTER).is_file():
        return PolicySource(str(folder.absolute()))
    return PolicySource(start.model, adapter=str(folder.absolute()))


def on_merged(config: RunConfig, run: Run) -> RunConfig:
    """The configuration with the run's merged model instead of its model and adapter.

    Checks the digests of the model's files. The configuration is unchanged if nothing was merged.

    Raises:
        StoreError: a file of the merged model has changed.
    """
    if not config.policy.merges or not run.exists(BASE):
        return config
    model = run.path(BASE, MERGED_MODEL).absolute()
    return replace(config, policy=replace(config.policy, model=str(model), revision=None, adapter=None))


def saved_digest(run: Run, stage: str) -> str:
    """The digest of the weights that a stage saved."""
    if stage == RESULT:
        return run.figures(stage, ResultFigures).digest
    return run.figures(stage, TrainFigures).digest


def _stages(run: Run) -> dict[Which, str | None]:
    """The stages that saved a run's policies, the result first; None for the model that the run started from."""
    numbers = sorted(index for folder in run.root.iterdir() if (index := round_of(folder.name)) is not None)
    supervised = run_config(run).sft is not None
    stages: dict[Which, str | None] = {"result": RESULT}
    for number in numbers:
        stages[number] = round_stage(number, TRAIN)
    stages["baseline"], stages["start"] = training(BASELINE), SFT if supervised else None
    return {which: stage for which, stage in stages.items() if stage is None or run.exists(stage)}


def _named(which: Which) -> str:
    return f"round {which}" if isinstance(which, int) else {"start": "starting policy"}.get(which, which)


def _model(place: str) -> SavedPolicy:
    given = PolicySource(place)
    if (Path(place) / _ADAPTER).is_file():
        given = on_its_base(Path(place))
    source = fetch(given, "")
    check_kind(source, PolicyConfig())
    folder = Path(source.adapter or source.model)
    return SavedPolicy(place, source, folder, _own_tokenizer(folder, PolicyConfig()), DataConfig())


def _own_tokenizer(folder: Path, loading: PolicyConfig) -> PolicyConfig:
    """Use the tokenizer and chat template that were saved with a policy, if they were."""
    if not (folder / "tokenizer_config.json").is_file():
        return loading
    return replace(loading, tokenizer=str(folder), chat_template=None)

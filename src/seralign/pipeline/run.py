"""Runs training from the first stage to the last."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

from seralign import distributed
from seralign.config import RunConfig, to_dict
from seralign.errors import ConfigError
from seralign.evaluation.scorer import ScoreFunction
from seralign.pipeline.checks import check_processes, check_sections
from seralign.pipeline.deciding import Decide
from seralign.pipeline.opening import opened
from seralign.pipeline.reporting import report
from seralign.pipeline.schedule import later, schedule
from seralign.pipeline.stage import carry_out
from seralign.policy.memory import memory_errors
from seralign.policy.release import use_system_pool
from seralign.progress import say
from seralign.runs import Run, open_run, read_manifest
from seralign.runs.figures import DecideFigures, ResultFigures
from seralign.runs.files import disk_errors, locked
from seralign.runs.layout import RESULT, WORLD, round_of


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, the folder of its result, and the figures of the result."""

    run: Run
    policy: Path
    figures: ResultFigures


def train(config: RunConfig, scorer: ScoreFunction | None = None) -> RunResult:
    """Train: carry a run from its current state to its end.

    Every stage is written atomically and recorded. A finished stage is read back. A run that is killed at any moment
    and started again ends with the same result.

    From then on, Arrow allocates with the C library in this process, so that freed memory returns to the system, unless
    the environment variable ``ARROW_DEFAULT_MEMORY_POOL`` names another pool.

    Args:
        config: The run.
        scorer: Scores responses: (prompts, responses) to one finite number each, higher is better. Replaces
            ``evaluation.scorer``.

    Raises:
        SeralignError: a user error in configuration, data, model or folder.
        PeerError: another process of the run has ended.
    """
    if config.rlhf is not None and distributed.announced() > 1:
        if distributed.announced_rank():  # the first process says it for all
            raise SystemExit(0)
        raise ConfigError("rlhf: it runs in one process; start seralign without a launcher")
    use_system_pool()
    distributed.start()
    check_sections(config)
    check_processes(config)
    root = Path(config.out)
    with distributed.peer_errors(), disk_errors(root), memory_errors():
        if not distributed.is_main():
            distributed.barrier()
            return _train(Run(root), config, scorer)
        with locked(root):
            run = open_run(root, to_dict(config), _versions(), free=frozenset({WORLD}))
            _tell_versions(run)
            _tell_resumed(run, config)
            distributed.barrier()
            return _train(run, config, scorer)


def _train(run: Run, config: RunConfig, scorer: ScoreFunction | None) -> RunResult:
    with opened(run, config, scorer) as context:
        has_ended = False
        for stage in later(config):
            if has_ended and round_of(stage.name) is not None:
                continue
            is_new = not run.exists(stage.name)
            carry_out(run, stage, context)
            if isinstance(stage, Decide):
                has_ended = _decided(run, stage, is_new)
        report(run)
        return RunResult(run, run.root / RESULT, run.figures(RESULT, ResultFigures))


def _decided(run: Run, stage: Decide, is_new: bool) -> bool:
    """Report the decision, and write the report so far. Returns whether the rounds end."""
    found = run.figures(stage.name, DecideFigures)
    say(f"round {stage.index}: {found.reason}" + (f"; it does harm: {found.harm}" if found.harm else ""))
    if is_new:
        report(run)
    return found.stop


def _tell_versions(run: Run) -> None:
    begun = read_manifest(run.root)["versions"]
    changed = [f"{name} {begun.get(name)} -> {now}" for name, now in _versions().items() if begun.get(name) != now]
    if changed:
        say(f"warning: the run began with other versions ({', '.join(changed)}); its figures may not be exactly equal")


def _tell_resumed(run: Run, config: RunConfig) -> None:
    """Say how far a run came that was begun before."""
    finished = [stage.name for stage in schedule(config) if run.exists(stage.name)]
    if run.exists(RESULT):
        say(f"{run.root} has finished; its report is written again")
    elif finished:
        say(f"resuming {run.root} after {finished[-1]}")


def _versions() -> dict[str, str]:
    packages = ("seralign", "torch", "transformers", "peft", "accelerate", "datasets")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}

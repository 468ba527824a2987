"""Runs a study: worker processes, progress, and errors. Imports no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from seralign.errors import SeralignError, StoreError
from seralign.progress import bar, say
from seralign.runs.files import disk_errors, locked, write_json
from seralign.studies.cells import ERROR, STUDY, Cell, errors_of, is_finished, is_over, plan_study
from seralign.studies.check import check_study
from seralign.studies.config import StudyConfig, to_dict

_WAIT = 2.0


def run_study(study: StudyConfig, jobs: int = 1) -> None:
    """Run a study, or resume it.

    Finished cells are kept. A cell that lacks a measurement is run again. If the function is called again after it was
    killed, it resumes the cells that were begun.

    Args:
        study: The study.
        jobs: Number of processes; with more than one, each computes with one thread.

    Raises:
        SeralignError: a user error, or cells failed. The first failure is reported; the other cells are done.
    """
    check_study(study)
    root = Path(study.out)
    with disk_errors(root), locked(root):
        _begin(study, root)
        cells, _ = plan_study(study)
        for folder in {folder for cell in cells for folder in errors_of(cell, root)}:
            folder.unlink(missing_ok=True)
        if not all(is_finished(cell, root) for cell in cells):
            with _workers(root, jobs) as workers, bar("measured", _size(cells), "policy") as line:
                left = cells
                while left and (alive := [worker for worker in workers if worker.poll() is None]):
                    with suppress(subprocess.TimeoutExpired):
                        alive[0].wait(_WAIT)
                    ended = [cell for cell in left if is_over(cell, root)]
                    for cell in ended:
                        _tell_failure(cell, root)
                    left = [cell for cell in left if cell not in ended]
                    line.at(_size(cells) - _size(left))
        _judge(cells, root)


def _begin(study: StudyConfig, root: Path) -> None:
    # A study that was killed while it began has left the lock and a torn file.
    names = {entry.name for entry in root.iterdir()} - {"lock", f"{STUDY}.tmp"}
    if names and STUDY not in names:
        raise StoreError(f"{root} is not empty and holds no study: choose another folder (out)")
    write_json(root / STUDY, to_dict(study))


def _size(cells: list[Cell]) -> int:
    """Policies to measure: what a cell costs grows with them."""
    return sum(len(cell.asks) for cell in cells)


@contextmanager
def _workers(root: Path, jobs: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Worker processes, each with a log of its own; the block's end waits for theirs, its failure ends them."""
    environment = dict(os.environ)
    if jobs > 1:
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    (root / "logs").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "seralign.studies.worker", str(root), str(os.getpid())]
    with ExitStack() as logs:
        workers = [
            subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            for log in (logs.enter_context((root / "logs" / f"worker-{n}.log").open("ab")) for n in range(jobs))
        ]
        try:
            yield workers
        except BaseException:
            for worker in workers:
                worker.terminate()
            raise
        finally:
            for worker in workers:
                worker.wait()


def _tell_failure(cell: Cell, root: Path) -> None:
    """Say at once that a cell failed: hours may pass before the study ends."""
    if not is_finished(cell, root) and (errors := _errors(cell, root)):
        say(f"failed: {cell.folder(root)}: {errors[0]}")


def _errors(cell: Cell, root: Path) -> list[str]:
    """The last line of each error of a cell."""
    files = [path for path in errors_of(cell, root) if path.is_file()]
    return [path.read_text(encoding="utf-8").strip().splitlines()[-1] for path in files]


def _judge(cells: list[Cell], root: Path) -> None:
    missing = [cell for cell in cells if not is_finished(cell, root)]
    if not missing:
        return
    errors = [error for cell in missing for error in _errors(cell, root)]
    if not errors:
        raise SeralignError(f"{len(missing)} of {len(cells)} cells are not done; the workers ended, see {root}/logs")
    raise SeralignError(
        f"{len(missing)} of {len(cells)} cells failed, the first with: {errors[0]} (each cell's {ERROR} has the whole; "
        "the same command tries them again)"
    )

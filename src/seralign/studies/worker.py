"""One process of a study: runs cells that no other process runs, until none is left.

python -m seralign.studies.worker STUDY PARENT

A worker locks the folder of its cell, and the lock is released when the process ends. So there can be any number of
workers, and a cell that a killed worker had begun is resumed by another one.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from seralign.errors import BusyError, SeralignError
from seralign.progress import say
from seralign.runs.files import locked, write_atomic
from seralign.studies.cells import ERROR, STUDY, Cell, is_over, plan_study
from seralign.studies.config import study_from
from seralign.studies.runs import run_cell, supervised_run

_WAIT = 0.5


def work(root: Path, parent: int) -> None:
    """Do what is left of a study; ends early when the process that started this one is gone."""
    study = study_from(json.loads((root / STUDY).read_text(encoding="utf-8")))
    left, _ = plan_study(study)
    while os.getppid() == parent:
        left = [cell for cell in left if not is_over(cell, root)]
        if not left:
            return
        if not any(_try(cell, root, study.keep) for cell in left):
            time.sleep(_WAIT)


def _try(cell: Cell, root: Path, keep: bool) -> bool:
    """Do a cell; false where another process has it, or the supervised policy or the reward model that it needs."""
    with ExitStack() as claims:
        if not _claim(claims, cell.folder(root)) or is_over(cell, root):
            return False
        for needed in cell.needed:
            if needed.is_trained(root):
                continue
            with ExitStack() as claim:
                if not _claim(claim, needed.folder(root)):
                    return False
                if not _succeeds(partial(supervised_run, needed, root), needed.folder(root)):
                    return True
        _succeeds(lambda: run_cell(cell, root, keep), cell.folder(root))
        return True


def _claim(claims: ExitStack, folder: Path) -> bool:
    try:
        claims.enter_context(locked(folder))
    except BusyError:
        return False
    return True


def _succeeds(act: Callable[[], object], folder: Path) -> bool:
    """Whether the work succeeded. An error is written to the folder, and the study continues with other cells."""
    try:
        act()
    except SeralignError as error:
        told = str(error)
    except Exception:
        told = traceback.format_exc()
    else:
        return True
    say(told)
    write_atomic(folder / ERROR, lambda part: part.write_text(told.rstrip() + "\n", encoding="utf-8"))
    return False


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))

"""How far a study is, and how long the rest will take. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Group, RenderableType
from rich.text import Text

from seralign.runs.files import is_locked
from seralign.studies.cells import FIGURES, Cell, errors_of, is_finished, plan_study
from seralign.studies.results import read_study
from seralign.tables import Column, counted, duration, table, terminal


@dataclass(frozen=True)
class MethodStatus:
    """The cells that a method needs; a cell of several methods counts for each.

    Args:
        method: Its name.
        cells: Number of its cells.
        finished: Those that have been measured.
        running: Those that a process works on.
        failed: Those with an error, also of their supervised policy; the next ``lab run`` tries them again.
        seconds: Mean seconds of a finished one; None without one.
    """

    method: str
    cells: int
    finished: int
    running: int
    failed: int
    seconds: float | None


@dataclass(frozen=True)
class StudyStatus:
    """A study's cells, all together and by method, and what is left.

    Args:
        study: Its folder.
        cells: Number of cells.
        finished: Those that have been measured.
        running: Those that a process works on.
        failed: Those with an error.
        seconds: Of all finished cells.
        work_left: Seconds of one process that the cells that are left will take; None before the first is finished.
        methods: By method.
    """

    study: str
    cells: int
    finished: int
    running: int
    failed: int
    seconds: float
    work_left: float | None
    methods: tuple[MethodStatus, ...]

    @property
    def time_left(self) -> float | None:
        """Seconds until the study is finished, with as many processes as there are now; None where there is none."""
        return None if self.work_left is None or not self.running else self.work_left / self.running


def study_status(root: str | Path) -> StudyStatus:
    """The status of a study.

    Raises:
        StoreError: the folder holds no study.
    """
    root = Path(root)
    cells, _ = plan_study(read_study(root))
    seconds = {cell.digest: _seconds(cell, root) for cell in cells if is_finished(cell, root)}
    left = [cell for cell in cells if cell.digest not in seconds]
    running = {cell.digest for cell in left if is_locked(cell.folder(root))}
    failed = {cell.digest for cell in left if any(file.is_file() for file in errors_of(cell, root))}

    def of(method: str) -> MethodStatus:
        own = {cell.digest for cell in cells if method in cell.methods}
        done = [seconds[digest] for digest in own & seconds.keys()]
        mean = fmean(done) if done else None
        return MethodStatus(method, len(own), len(done), len(own & running), len(own & failed), mean)

    return StudyStatus(
        study=str(root),
        cells=len(cells),
        finished=len(seconds),
        running=len(running),
        failed=len(failed),
        seconds=sum(seconds.values()),
        work_left=work_left([cell for cell in cells if cell.digest in seconds], left, seconds),
        methods=tuple(of(method) for method in dict.fromkeys(name for cell in cells for name in sorted(cell.methods))),
    )


def work_left(done: Sequence[Cell], left: Sequence[Cell], seconds: Mapping[str, float]) -> float | None:
    """Seconds that the cells that are left will take.

    A cell takes as long as the finished ones of the same methods in the same world; without one, of the same methods
    in any world; without one, as the mean of all for each policy that is measured on it.

    Args:
        done: The finished cells.
        left: The others.
        seconds: Of the finished cells, by digest.
    """
    if not left:
        return 0.0
    if not done:
        return None
    each = sum(seconds[cell.digest] for cell in done) / sum(len(cell.asks) for cell in done)

    def of(cell: Cell) -> float:
        alike = [other for other in done if other.methods == cell.methods]
        here = [other for other in alike if other.world == cell.world]
        found = [seconds[other.digest] for other in here or alike]
        return fmean(found) if found else each * len(cell.asks)

    return sum(of(cell) for cell in left)


def status_table(status: StudyStatus) -> RenderableType:
    """The status for the terminal."""
    left = status.cells - status.finished
    parts = {"running": status.running, "failed": status.failed, "waiting": left - status.running - status.failed}
    told = counted({name: count for name, count in parts.items() if count})
    text = f"{status.study}: {status.finished} of {status.cells} cells finished" + (f"; {told}" if told else "")
    if left and status.work_left is not None:
        text += f". Work left: {duration(status.work_left)} of one process"
        if status.time_left is not None:
            many = "process" if status.running == 1 else "processes"
            text += f", {duration(status.time_left)} with the {status.running} {many} at work"
    if left and not status.running:
        text += ". No process works on it; seralign lab run resumes it"
    return Group(terminal(table("", METHOD_COLUMNS, status.methods)), Text(f"{text}."))


METHOD_COLUMNS = (
    Column[MethodStatus]("method", lambda row: row.method),
    Column[MethodStatus]("cells", lambda row: str(row.cells)),
    Column[MethodStatus]("finished", lambda row: str(row.finished)),
    Column[MethodStatus]("running", lambda row: str(row.running)),
    Column[MethodStatus]("failed", lambda row: str(row.failed)),
    Column[MethodStatus]("a cell takes", lambda row: "–" if row.seconds is None else duration(row.seconds)),
)


def _seconds(cell: Cell, root: Path) -> float:
    found = json.loads((cell.folder(root) / FIGURES).read_text(encoding="utf-8"))
    return float(sum(found["seconds"].values()))

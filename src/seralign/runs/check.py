"""Compares every file of a run with its recorded digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from seralign.errors import StoreError
from seralign.runs.layout import CHECKPOINT_MARKER, INPUTS, MANIFEST, RECORD, SCRATCH
from seralign.runs.manifest import read_manifest
from seralign.runs.sealed import is_sealed, read_sealed
from seralign.runs.stages import Run, files_of, harm, stage_folders


@dataclass(frozen=True)
class Checked:
    """A stage, or another part of a run, that was checked.

    ``files`` and ``size`` (bytes) count what was read. ``problems`` names the damaged files; it is empty if there are
    none.
    """

    name: str
    files: int
    size: int
    problems: tuple[str, ...]


def check_run(run: Run, progress: Callable[[int], None] = lambda size: None) -> Iterator[Checked]:
    """Read every file of a run that has a digest: ``run.json``, finished stages, and the work of unfinished stages.

    Args:
        run: The run. Nothing is written.
        progress: Called with the bytes of each file that was read.
    """
    yield _manifest(run)
    for folder in stage_folders(run.root):
        yield _stage(run, str(folder.relative_to(run.root)), progress)
    for folder in _unfinished(run.root):
        yield _partial(folder, str(folder.relative_to(run.root)), progress)


def run_size(run: Run) -> int:
    """Bytes of all files that ``check_run`` may read."""
    folders = [*stage_folders(run.root), *_unfinished(run.root)]
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def _manifest(run: Run) -> Checked:
    problems = []
    try:
        read_manifest(run.root)
    except StoreError as error:
        problems.append(str(error))
    return Checked(MANIFEST, 1, _size(run.root / MANIFEST), tuple(problems))


def _stage(run: Run, name: str, progress: Callable[[int], None]) -> Checked:
    folder = run.root / name
    progress(_size(folder / RECORD))
    try:
        record = run.record(name)
    except StoreError as error:
        return Checked(name, 1, _size(folder / RECORD), (str(error),))
    problems = _harmed(folder, record.outputs, progress)
    more = sorted(set(files_of(folder)) - record.outputs.keys())
    problems += [f"{file}: not a file that the stage wrote" for file in more]
    names = [RECORD, *record.outputs]
    return Checked(name, len(names), sum(_size(folder / file) for file in names), tuple(problems))


def _partial(folder: Path, name: str, progress: Callable[[int], None]) -> Checked:
    problems, names = [], []
    scratch = folder / SCRATCH
    for path in [scratch / INPUTS, *sorted(scratch.glob(f"**/checkpoint-*/{CHECKPOINT_MARKER}"))]:
        names.append(path)
        try:
            content = read_sealed(path)
        except (OSError, ValueError) as error:
            problems.append(f"{path.relative_to(folder)}: {error}")
            continue
        if path.name == CHECKPOINT_MARKER:
            names += [path.parent / file for file in content]
            where = path.parent.relative_to(folder)
            problems += [f"{where}/{problem}" for problem in _harmed(path.parent, content, progress)]
    for path in sorted(scratch.rglob("*.sealed")):
        names.append(path)
        progress(_size(path))
        if not is_sealed(path):
            problems.append(f"{path.relative_to(folder)}: its contents have changed since it was written")
    return Checked(name, len(names), sum(map(_size, names)), tuple(problems))


def _harmed(folder: Path, digests: dict[str, str], progress: Callable[[int], None]) -> list[str]:
    problems = []
    for name, digest in digests.items():
        if what := harm(folder / name, digest):
            problems.append(f"{name}: {what}")
        progress(_size(folder / name))
    return problems


def _unfinished(folder: Path) -> Iterator[Path]:
    for child in sorted(folder.iterdir()):
        if child.is_dir() and child.name.endswith(".partial"):
            yield child
        elif child.is_dir() and not (child / RECORD).is_file():
            yield from _unfinished(child)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0

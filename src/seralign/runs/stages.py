"""Stages of a run: begun in a partial folder, finished by one rename, read back by digest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any, TypeVar

from seralign.errors import StoreError
from seralign.records import content_id
from seralign.runs.files import file_digest, sync
from seralign.runs.layout import INPUTS, RECORD, SCRATCH
from seralign.runs.sealed import read_sealed, write_sealed
from seralign.runs.typed import from_json

Figures = TypeVar("Figures")


@dataclass(frozen=True)
class StageRecord:
    """The record of a finished stage.

    ``inputs`` maps names to digests; ``outputs`` maps files to their sha256; ``figures`` has JSON values by name
    (``Run.figures`` reads them as a dataclass); ``seconds`` is the time of the process that finished the stage, and
    ``peak_memory_mb`` the peak memory of that process so far.
    """

    name: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    stats: dict[str, list[int]]
    figures: dict[str, Any]
    seconds: float
    peak_memory_mb: float
    finished: float

    @property
    def digest(self) -> str:
        """Digest of everything that the stage wrote."""
        return content_id(self.outputs)


@dataclass(frozen=True)
class Run:
    """The folder of a run. ``root`` is its path."""

    root: Path
    _read: dict[Path, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def path(self, stage: str, *parts: str) -> Path:
        """The path of a file or folder of a finished stage, for reading.

        The files are first compared with the digests in the record of the stage, once per process; this takes about a
        second per gigabyte.

        Raises:
            StoreError: the stage has not finished, or a file is missing or has changed.
        """
        asked = PurePath(*parts)
        for name, digest in self.record(stage).outputs.items():
            if PurePath(name).is_relative_to(asked):
                self._check(stage, name, digest)
        return self.root.joinpath(stage, *parts)

    def partial(self, stage: str) -> Path:
        """The folder of a stage until it is finished."""
        folder = self.root / stage
        return folder.with_name(folder.name + ".partial")

    def exists(self, stage: str) -> bool:
        """Whether the stage is finished."""
        return (self.root / stage / RECORD).is_file()

    def record(self, stage: str) -> StageRecord:
        """The record of a finished stage.

        Raises:
            StoreError: the record is missing or corrupt.
        """
        path = self.root / stage / RECORD
        try:
            record = StageRecord(**read_sealed(path))
        except FileNotFoundError:
            raise StoreError(f"{path}: the stage has not finished") from None
        except (OSError, ValueError, TypeError) as error:
            raise _corrupt(path, path.parent, f"the record cannot be read ({error})") from None
        if record.name != stage:
            raise _corrupt(path, path.parent, f"the record of another stage, {record.name}")
        return record

    def figures(self, stage: str, kind: type[Figures]) -> Figures:
        """The figures of a finished stage, as their dataclass in ``seralign.runs.figures``.

        Raises:
            StoreError: the record is missing or corrupt, or does not hold these figures.
        """
        return self.read_figures(self.record(stage), kind)

    def read_figures(self, record: StageRecord, kind: type[Figures]) -> Figures:
        """The figures of a record; see ``figures``."""
        try:
            return from_json(kind, record.figures)
        except ValueError as error:
            raise StoreError(
                f"{self.root / record.name / RECORD}: not the figures of this version: {error}. Use the version "
                "of seralign that made the run, or make it again in another folder (--out)"
            ) from None

    def stages(self) -> list[StageRecord]:
        """Records of all finished stages, in the order in which they finished."""
        records = [self.record(str(folder.relative_to(self.root))) for folder in stage_folders(self.root)]
        return sorted(records, key=lambda record: record.finished)

    def begin(self, stage: str, inputs: dict[str, str]) -> Path:
        """The folder for the work of a stage. If an earlier attempt with the same inputs was killed, its files are
        still in it.

        Raises:
            StoreError: the folder of the stage exists without its record, or the inputs of the earlier attempt cannot
                be read.
        """
        final = self.root / stage
        if final.exists():
            raise _corrupt(final / RECORD, final, "the record is missing")
        folder = self.partial(stage)
        begun = folder / SCRATCH / INPUTS
        if not begun.exists() or self._begun_with(begun) != inputs:
            shutil.rmtree(folder, ignore_errors=True)
            begun.parent.mkdir(parents=True)
            write_sealed(begun, inputs)
        return folder

    def commit(self, stage: str, inputs: dict[str, str], figures: dict[str, Any], seconds: float) -> StageRecord:
        """Finish a stage, by one rename."""
        folder = self.partial(stage)
        for torn in folder.rglob("*.tmp"):
            torn.unlink()
        files = files_of(folder)
        _follow_umask([folder / name for name in files], folder / SCRATCH / INPUTS)
        record = StageRecord(
            name=stage,
            inputs=inputs,
            outputs={name: file_digest(folder / name) for name in files},
            stats={name: _stat(folder / name) for name in files},
            figures=figures,
            seconds=round(seconds, 3),
            peak_memory_mb=_peak_memory_mb(),
            finished=time.time(),
        )
        for name in files:
            sync(folder / name)
        write_sealed(folder / RECORD, asdict(record))
        self.recover(stage)
        self._read.update({self.root / stage / name: stat for name, stat in record.stats.items()})
        return record

    def recover(self, stage: str) -> None:
        """Rename a stage whose record was written before the process was killed."""
        folder, final = self.partial(stage), self.root / stage
        if (folder / RECORD).is_file():
            if final.exists():
                raise StoreError(f"{final} and {folder} are both finished. Delete one of the two")
            folder.replace(final)
            sync(final.parent)
        # Only now: if a stage is killed before it is renamed, it needs its checkpoints again.
        shutil.rmtree(final / SCRATCH, ignore_errors=True)

    def verify(self, stage: str, inputs: dict[str, str]) -> StageRecord:
        """The record of a finished stage, after checking that it has these inputs and that no file has changed.

        A file is only read if its size or modification time differs from the record; ``path`` always reads it.

        Raises:
            StoreError: the inputs differ, or a file is missing or has changed.
        """
        record = self.record(stage)
        changed = sorted(
            key for key in record.inputs.keys() | inputs.keys() if record.inputs.get(key) != inputs.get(key)
        )
        if changed:
            raise StoreError(
                f"{self.root / stage} was made from other inputs: {', '.join(changed)} changed since then. "
                "Restore them, or use another folder for the new run (--out)"
            )
        for name, digest in record.outputs.items():
            path = self.root / stage / name
            if not path.is_file():
                raise _corrupt(path, self.root / stage, "the file is missing")
            if _stat(path) != record.stats.get(name):
                self._check(stage, name, digest)
        return record

    def _check(self, stage: str, name: str, digest: str) -> None:
        path = self.root / stage / name
        if path.is_file() and self._read.get(path) == _stat(path):
            return
        if what := harm(path, digest):
            raise _corrupt(path, self.root / stage, what)
        self._read[path] = _stat(path)

    def _begun_with(self, path: Path) -> dict[str, Any]:
        try:
            return read_sealed(path)
        except (OSError, ValueError) as error:
            folder = path.parent.parent
            raise StoreError(
                f"{path}: cannot be read ({error}), so the inputs of {folder.name} are not known. "
                f"Delete the folder {folder}; the same command runs this stage again"
            ) from None


def harm(path: Path, digest: str) -> str | None:
    """The problem of a file that should have a digest, or None."""
    try:
        return None if file_digest(path) == digest else "its contents have changed since it was written"
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"


def files_of(folder: Path) -> list[str]:
    """The files that a stage wrote, except its record."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path != folder / RECORD and folder / SCRATCH not in path.parents
    )


def _follow_umask(paths: list[Path], made_here: Path) -> None:
    """Give files the permissions of the user's umask. safetensors makes its files readable for the owner only."""
    mode = made_here.stat().st_mode & 0o666
    for path in paths:
        if path.stat().st_mode & 0o666 != mode:
            path.chmod(mode)


def stage_folders(folder: Path) -> Iterator[Path]:
    """The folders of finished stages. Folders inside a stage are not searched."""
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.endswith(".partial"):
            if (child / RECORD).is_file():
                yield child
            else:
                yield from stage_folders(child)


def _stat(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _peak_memory_mb() -> float:
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _corrupt(path: Path, stage: Path, what: str) -> StoreError:
    return StoreError(
        f"{path}: {what}. Delete the folder {stage} and all later stages; the same command runs them again"
    )

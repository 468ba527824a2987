"""Stages of a run: begun, finished by one rename, read back by digest."""

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
    """What a finished stage read, wrote and found.

    ``inputs`` name to digest; ``outputs`` file to sha256; ``figures`` JSON values by name
    (``Run.figures`` reads them as a dataclass); ``seconds`` of the
    process that finished it, ``peak_memory_mb`` of that process so far.
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
    """A run's folder. ``root`` is its path."""

    root: Path
    _read: dict[Path, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def path(self, stage: str, *parts: str) -> Path:
        """A file or folder of a finished stage, to read it.

        What lies there is first compared with the digests of the stage's record, each file once in a process: about
        a second a gigabyte.

        Raises:
            StoreError: the stage has not finished, or a file is missing or is not what the stage wrote.
        """
        asked = PurePath(*parts)
        for name, digest in self.record(stage).outputs.items():
            if PurePath(name).is_relative_to(asked):
                self._check(stage, name, digest)
        return self.root.joinpath(stage, *parts)

    def partial(self, stage: str) -> Path:
        """The folder that a stage works in until it is finished."""
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
        """The figures of a record, as ``figures`` gives them."""
        try:
            return from_json(kind, record.figures)
        except ValueError as error:
            raise StoreError(
                f"{self.root / record.name / RECORD}: no figures of this version: {error}. Show the run with the "
                "version of seralign that made it, or make it again in another folder (--out)"
            ) from None

    def stages(self) -> list[StageRecord]:
        """Records of all finished stages, in the order in which they finished."""
        records = [self.record(str(folder.relative_to(self.root))) for folder in stage_folders(self.root)]
        return sorted(records, key=lambda record: record.finished)

    def begin(self, stage: str, inputs: dict[str, str]) -> Path:
        """The folder to work in; what an earlier, killed attempt on the same inputs left there is still in it.

        Raises:
            StoreError: the stage's folder is there but its record is not, or what an attempt began with is not known.
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
        """Make the work of a stage final, by one rename."""
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
        """Put a stage in place whose record was written, as the last thing before the process was killed perhaps."""
        folder, final = self.partial(stage), self.root / stage
        if (folder / RECORD).is_file():
            if final.exists():
                raise StoreError(f"{final} and {folder} are both finished. Delete one of the two")
            folder.replace(final)
            sync(final.parent)
        # Only now: a stage that is killed before it is in place needs its checkpoints again.
        shutil.rmtree(final / SCRATCH, ignore_errors=True)

    def verify(self, stage: str, inputs: dict[str, str]) -> StageRecord:
        """The record of a finished stage, after checking that it was made from ``inputs`` and is unharmed.

        A file is read only where its size or time differs from what was recorded; ``path`` reads it in any case.

        Raises:
            StoreError: other inputs, or a file that is missing or has changed.
        """
        record = self.record(stage)
        changed = sorted(
            key for key in record.inputs.keys() | inputs.keys() if record.inputs.get(key) != inputs.get(key)
        )
        if changed:
            raise StoreError(
                f"{self.root / stage} was made from other inputs: {', '.join(changed)} changed since. "
                "Put them back as they were, or give the new run another folder (--out)"
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
                f"{path}: cannot be read ({error}), so what {folder.name} was begun with is not known. "
                f"Delete the folder {folder}; the same command begins this stage again"
            ) from None


def harm(path: Path, digest: str) -> str | None:
    """What is wrong with a file that has to have a digest; None where nothing is."""
    try:
        return None if file_digest(path) == digest else "its contents have changed since it was written"
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"


def files_of(folder: Path) -> list[str]:
    """Files that a stage wrote, beside its record."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path != folder / RECORD and folder / SCRATCH not in path.parents
    )


def _follow_umask(paths: list[Path], made_here: Path) -> None:
    """Give files the permissions that the user's umask gives. safetensors makes its files for the owner alone."""
    mode = made_here.stat().st_mode & 0o666
    for path in paths:
        if path.stat().st_mode & 0o666 != mode:
            path.chmod(mode)


def stage_folders(folder: Path) -> Iterator[Path]:
    """Folders of finished stages; what is inside a stage, finished or not, is not looked at."""
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
        f"{path}: {what}. Delete the folder {stage} and all later stages; the same command makes them again"
    )

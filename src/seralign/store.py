"""The only reader and writer of a run's folder: layout, atomic stages, digests.

A run is a folder of stages. A stage works in ``NAME.partial`` and becomes ``NAME`` by one rename, its record
``stage.json`` inside: it is either whole or not there, and what a killed stage had finished is still in
``NAME.partial`` when it is begun again. The record names what the stage read and wrote by digest; a stage that
exists is read back, never made again, and refused when its inputs are others now.

    RUN/run.json             configuration and versions
    RUN/data/                pairs.arrow, heldout.arrow, prompts.arrow, heldout_prompts.arrow
    RUN/sft/policy/          supervised policy
    RUN/round-2/score/       margins.parquet
    RUN/round-2/train/       policy/, metrics.jsonl, reference.parquet
    RUN/result/              the model that the run was for
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seralign.config import load_config, to_dict
from seralign.errors import ConfigError, StoreError
from seralign.files import file_digest, sync, write_json
from seralign.records import content_id

FORMAT = 1
RECORD = "stage.json"
SCRATCH = "scratch"


@dataclass(frozen=True)
class StageRecord:
    """What a finished stage read, wrote and found.

    ``inputs`` name to digest; ``outputs`` file to sha256; ``figures`` JSON values by name; ``seconds`` of the
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

    def path(self, stage: str, *parts: str) -> Path:
        """A file of a finished stage."""
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
            record = StageRecord(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise StoreError(f"{path}: the stage has not finished") from None
        except (OSError, ValueError, TypeError) as error:
            raise _corrupt(path, path.parent, f"the record cannot be read ({error})") from None
        if not all(isinstance(part, dict) for part in (record.inputs, record.outputs, record.stats, record.figures)):
            raise _corrupt(path, path.parent, "not the record of a stage")
        return record

    def stages(self) -> list[StageRecord]:
        """Records of all finished stages, in the order in which they finished."""
        records = [self.record(str(folder.relative_to(self.root))) for folder in _stage_folders(self.root)]
        return sorted(records, key=lambda record: record.finished)

    def begin(self, stage: str, inputs: dict[str, str]) -> Path:
        """The folder to work in; what an earlier, killed attempt on the same inputs left there is still in it.

        Raises:
            StoreError: the stage's folder is there but its record is not.
        """
        final = self.root / stage
        if final.exists():
            raise _corrupt(final / RECORD, final, "the record is missing")
        folder = self.partial(stage)
        begun = folder / SCRATCH / "inputs.json"
        if not begun.is_file() or json.loads(begun.read_text(encoding="utf-8")) != inputs:
            shutil.rmtree(folder, ignore_errors=True)
            begun.parent.mkdir(parents=True)
            write_json(begun, inputs)
        return folder

    def commit(self, stage: str, inputs: dict[str, str], figures: dict[str, Any], seconds: float) -> StageRecord:
        """Make the work of a stage final, by one rename."""
        folder = self.partial(stage)
        for torn in folder.rglob("*.tmp"):
            torn.unlink()
        files = _files(folder)
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
        write_json(folder / RECORD, asdict(record))
        self.recover(stage)
        return record

    def recover(self, stage: str) -> None:
        """Put a stage in place whose record was written, as the last thing before the process was killed perhaps."""
        folder, final = self.partial(stage), self.root / stage
        if (folder / RECORD).is_file():
            folder.replace(final)
            sync(final.parent)
        # Only now: a stage that is killed before it is in place needs its checkpoints again.
        shutil.rmtree(final / SCRATCH, ignore_errors=True)

    def verify(self, stage: str, inputs: dict[str, str]) -> StageRecord:
        """The record of a finished stage, after checking that it was made from ``inputs`` and is unharmed.

        A file is read again only where its size or time differs from what was recorded.

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
            if _stat(path) != record.stats.get(name) and file_digest(path) != digest:
                raise _corrupt(path, self.root / stage, "its contents have changed since it was written")
        return record


def open_run(root: str | Path, config: dict[str, Any], versions: dict[str, str]) -> Run:
    """Open a run's folder for work, or begin one.

    Raises:
        StoreError: the folder holds something else, or a run of another configuration that has finished a stage (the
            keys are named).
    """
    root = Path(root)
    config = {key: value for key, value in config.items() if key != "out"}
    manifest = root / "run.json"
    if manifest.is_file():
        stored = _with_defaults(read_manifest(root)["config"])
        changed = _differences(stored, config)
        if changed and any(_stage_folders(root)):
            raise StoreError(
                f"{root} holds a run of another configuration: {'; '.join(changed)}. "
                "Go on with the configuration that it began with, or choose another folder (--out)"
            )
        if not changed:
            return Run(root)
    # A run that was killed while it began has left the lock and a torn manifest.
    elif root.is_dir() and any(entry.name not in ("lock", "run.json.tmp") for entry in root.iterdir()):
        raise StoreError(f"{root} is not empty and holds no run: choose another folder (--out)")
    root.mkdir(parents=True, exist_ok=True)
    write_json(manifest, {"format": FORMAT, "config": config, "versions": versions, "created": time.time()})
    return Run(root)


def read_run(root: str | Path) -> Run:
    """Open a run's folder for reading.

    Raises:
        StoreError: the folder holds no run.
    """
    read_manifest(Path(root))
    return Run(Path(root))


def read_manifest(root: Path) -> dict[str, Any]:
    """``run.json``: format, config, versions, created."""
    path = root / "run.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{root}: no run here (run.json is missing)") from None
    except NotADirectoryError:
        raise StoreError(f"{root}: no run, but a file; give the run's folder") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("config"), dict)
    ):
        raise StoreError(f"{path}: not a run of this version (format {FORMAT})")
    return manifest


def _files(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path != folder / RECORD and folder / SCRATCH not in path.parents
    )


def _stage_folders(folder: Path) -> Iterator[Path]:
    """Folders of finished stages; what is inside a stage, finished or not, is not looked at."""
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.endswith(".partial"):
            if (child / RECORD).is_file():
                yield child
            else:
                yield from _stage_folders(child)


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


def _with_defaults(stored: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run with what was added since; as it is where a key is no more.

    A run that could not name a key did what the paper does.
    """
    try:
        whole = to_dict(load_config(None, stored | {"recipe": "sera", "out": "."}))
        return {key: value for key, value in whole.items() if key != "out"}
    except ConfigError:
        return stored


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    changed = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            changed.append(f"{prefix}{key} was {before!r}, now {after!r}")
    return changed

"""``run.json``: the configuration of a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from seralign.errors import StoreError
from seralign.runs.layout import LOCK, MANIFEST
from seralign.runs.sealed import read_sealed, write_sealed
from seralign.runs.stages import Run, stage_folders

# Keys that may differ when a run is resumed: they decide what an unfinished stage accepts, or where verdicts are kept,
# and not what a finished one did.
_MAY_CHANGE = ("bootstrap.allow_partial", "evaluation.store")
# Increased whenever folders of an earlier version can no longer be read.
FORMAT = 4


def open_run(
    root: str | Path, config: dict[str, Any], versions: dict[str, str], free: frozenset[str] = frozenset()
) -> Run:
    """Open the folder of a run for work, or create it.

    Args:
        root: The folder.
        config: The configuration of the run.
        versions: Versions of the packages that it runs with.
        free: Stages that do not bind the folder to the configuration, because their inputs include all that they depend
            on.

    Raises:
        StoreError: the folder contains something else, or a run with another configuration that has finished a stage
            (the keys are named), or ``run.json`` was changed.
    """
    root = Path(root)
    config = {key: value for key, value in config.items() if key != "out"}
    manifest = root / MANIFEST
    if manifest.exists():
        changed = [
            each
            for each in differences(read_manifest(root)["config"], config)
            if not each.startswith(tuple(f"{key} was " for key in _MAY_CHANGE))
        ]
        if changed and any(str(folder.relative_to(root)) not in free for folder in stage_folders(root)):
            raise StoreError(
                f"{root} holds a run of another configuration: {'; '.join(changed)}. "
                "Use the configuration that it began with, or another folder (--out)"
            )
        if not changed:
            return Run(root)
    # A run that was killed at its start leaves the lock and an incomplete manifest.
    elif root.is_dir() and any(entry.name not in (LOCK, f"{MANIFEST}.tmp") for entry in root.iterdir()):
        raise StoreError(f"{root} is not empty and is not a run; use another folder (--out)")
    root.mkdir(parents=True, exist_ok=True)
    write_sealed(manifest, {"format": FORMAT, "config": config, "versions": versions, "created": time.time()})
    return Run(root)


def read_run(root: str | Path) -> Run:
    """Open the folder of a run for reading.

    Raises:
        StoreError: the folder is not a run.
    """
    read_manifest(Path(root))
    return Run(Path(root))


def read_manifest(root: Path) -> dict[str, Any]:
    """The content of ``run.json``: format, config, versions, created.

    Raises:
        StoreError: the folder is not a run, or the file has changed since it was written.
    """
    path = root / MANIFEST
    try:
        manifest = read_sealed(path)
    except FileNotFoundError:
        raise StoreError(f"{root}: no run here ({MANIFEST} is missing)") from None
    except NotADirectoryError:
        raise StoreError(f"{root}: this is a file; give the folder of a run") from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: cannot be read: {error}. Restore the file as a run of this version wrote it, "
            "or start the run in another folder (--out)"
        ) from None
    if manifest.get("format") != FORMAT:
        raise StoreError(f"{path}: not a run of this version (format {FORMAT}); use another folder (--out)")
    return manifest


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """The keys of two configurations that differ, each with both values."""
    changed = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            changed.append(f"{prefix}{key} was {before!r}, now {after!r}")
    return changed

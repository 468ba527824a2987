"""``run.json``: which configuration a run's folder belongs to."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from seralign.errors import StoreError
from seralign.runs.layout import LOCK, MANIFEST
from seralign.runs.sealed import read_sealed, write_sealed
from seralign.runs.stages import Run, stage_folders

# Raised whenever a folder of an earlier version could not be read.
FORMAT = 3


def open_run(
    root: str | Path, config: dict[str, Any], versions: dict[str, str], free: frozenset[str] = frozenset()
) -> Run:
    """Open a run's folder for work, or begin one.

    Args:
        root: The folder.
        config: The run's configuration.
        versions: Of the packages that it runs with.
        free: Stages that do not bind the folder to the configuration: their inputs hold all that they depend on.

    Raises:
        StoreError: the folder holds something else, or a run of another configuration that has finished a stage (the
            keys are named), or ``run.json`` was changed.
    """
    root = Path(root)
    config = {key: value for key, value in config.items() if key != "out"}
    manifest = root / MANIFEST
    if manifest.exists():
        changed = _differences(read_manifest(root)["config"], config)
        if changed and any(str(folder.relative_to(root)) not in free for folder in stage_folders(root)):
            raise StoreError(
                f"{root} holds a run of another configuration: {'; '.join(changed)}. "
                "Go on with the configuration that it began with, or choose another folder (--out)"
            )
        if not changed:
            return Run(root)
    # A run that was killed while it began has left the lock and a torn manifest.
    elif root.is_dir() and any(entry.name not in (LOCK, f"{MANIFEST}.tmp") for entry in root.iterdir()):
        raise StoreError(f"{root} is not empty and holds no run: choose another folder (--out)")
    root.mkdir(parents=True, exist_ok=True)
    write_sealed(manifest, {"format": FORMAT, "config": config, "versions": versions, "created": time.time()})
    return Run(root)


def read_run(root: str | Path) -> Run:
    """Open a run's folder for reading.

    Raises:
        StoreError: the folder holds no run.
    """
    read_manifest(Path(root))
    return Run(Path(root))


def read_manifest(root: Path) -> dict[str, Any]:
    """``run.json``: format, config, versions, created.

    Raises:
        StoreError: the folder holds no run, or the file is not as it was written.
    """
    path = root / MANIFEST
    try:
        manifest = read_sealed(path)
    except FileNotFoundError:
        raise StoreError(f"{root}: no run here ({MANIFEST} is missing)") from None
    except NotADirectoryError:
        raise StoreError(f"{root}: no run, but a file; give the run's folder") from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: cannot be read: {error}. Put the file back as a run of this version wrote it, "
            "or begin the run in another folder (--out)"
        ) from None
    if manifest.get("format") != FORMAT:
        raise StoreError(f"{path}: not a run of this version (format {FORMAT}); choose another folder (--out)")
    return manifest


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    changed = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            changed.append(f"{prefix}{key} was {before!r}, now {after!r}")
    return changed

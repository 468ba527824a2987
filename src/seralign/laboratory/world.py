"""The clause world as a folder: data, model and the key to score with, in the files that any run reads.

pairs.jsonl  heldout.jsonl  prompts.jsonl  demonstrations.jsonl  model/  world.json
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from seralign.config import WorldConfig
from seralign.errors import StoreError
from seralign.files import write_atomic
from seralign.laboratory import clauses
from seralign.laboratory.clauses import ClauseWorld
from seralign.laboratory.model import save_model
from seralign.records import content_id

VERSION = 1
WORLD_FILE = "world.json"


def make_world(config: WorldConfig, folder: Path) -> None:
    """Writes the world of ``config`` into ``folder``: the same bytes for the same configuration.

    ``world.json`` comes last, so a folder that has one is complete.

    Raises:
        ConfigError: ``world.seed`` is negative.
    """
    world = clauses.draw_world(config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WORLD_FILE).unlink(missing_ok=True)
    _write_rows(folder / "pairs.jsonl", clauses.offline_pairs(world))
    _write_rows(folder / "heldout.jsonl", clauses.heldout_pairs(world))
    _write_rows(folder / "prompts.jsonl", clauses.bootstrap_prompts(world))
    _write_rows(folder / "demonstrations.jsonl", clauses.demonstrations(world))
    save_model(folder / "model", config.seed)
    content = {"version": VERSION, "config": asdict(config), "table": world.table.tolist()}
    _write_text(folder / WORLD_FILE, json.dumps({**content, "digest": content_id(content)}) + "\n")


def load_world(folder: Path) -> ClauseWorld:
    """The world that :func:`make_world` wrote; ``world.json`` alone is needed to score.

    Raises:
        StoreError: The file is missing, of another version, or its content is not what was written.
    """
    path = folder / WORLD_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: {folder} holds no complete world") from None
    except ValueError as error:
        raise StoreError(f"{path} is corrupt ({error}); delete it to have the world made again") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise StoreError(f"{path} is not a world of version {VERSION}; delete it to have the world made again")
    if content.pop("digest", None) != content_id(content):
        raise StoreError(f"{path} is corrupt (its digest does not fit); delete it to have the world made again")
    return ClauseWorld(WorldConfig(**content["config"]), np.array(content["table"], dtype=np.int64))


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    _write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))

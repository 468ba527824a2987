"""Worlds as folders: data, model and the key of the gold reward, in files that any run can read.

pairs.jsonl  heldout.jsonl  validation.jsonl  prompts.jsonl  world.json; and for the built-in languages
demonstrations.jsonl  model/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from seralign.config import OwnWorldConfig, SamplingConfig, SourceConfig, WorldConfig
from seralign.errors import StoreError
from seralign.laboratory import clauses, elaborations, grammar, own, sums
from seralign.laboratory.grammar import Grammar, Rows
from seralign.laboratory.labels import surface
from seralign.laboratory.model import save_model
from seralign.records import content_id
from seralign.runs.files import write_atomic

VERSION = 2
WORLD_FILE = "world.json"


class World(Protocol):
    """A gold reward, and the configuration of the labeller."""

    @property
    def config(self) -> WorldConfig: ...

    @property
    def style_token(self) -> str | None:
        """The word that the labeller prefers if ``world.spurious`` is ``style`` or ``position``."""
        ...

    def key(self) -> dict[str, Any]:
        """What ``score`` needs besides the configuration, as JSON."""
        ...

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Gold reward [N] of responses to prompts, as rendered texts; higher is better."""
        ...


GRAMMARS: dict[str, Callable[[WorldConfig], Grammar]] = {
    "clauses": clauses.draw_world,
    "elaborations": elaborations.draw_world,
    "sums": sums.draw_world,
}
WORLDS: dict[str, Callable[[WorldConfig, Mapping[str, Any]], World]] = {
    "clauses": clauses.from_key,
    "elaborations": elaborations.from_key,
    "sums": sums.from_key,
    "own": own.from_key,
}


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The truth about N pairs, hidden from the run: gold rewards [N] of both responses, and whether the label is noise
    [N]."""

    pair_ids: list[str]
    gold_chosen: np.ndarray
    gold_rejected: np.ndarray
    flipped: np.ndarray

    @property
    def gold_difference(self) -> np.ndarray:
        """Gold reward of the chosen minus that of the rejected response [N]."""
        return self.gold_chosen - self.gold_rejected

    def of(self, pair_ids: Sequence[str]) -> Truth:
        """The truth about these pairs, in their order.

        Raises:
            StoreError: The world has no such pair.
        """
        place = {pair_id: at for at, pair_id in enumerate(self.pair_ids)}
        foreign = next((pair_id for pair_id in pair_ids if pair_id not in place), None)
        if foreign is not None:
            raise StoreError(f"the world has no pair {foreign!r}: the run's pairs are from another world")
        at = np.array([place[pair_id] for pair_id in pair_ids], dtype=np.int64)
        return Truth(list(pair_ids), self.gold_chosen[at], self.gold_rejected[at], self.flipped[at])


def make_world(config: WorldConfig, folder: Path) -> None:
    """Write the world of a built-in language into ``folder``; the same configuration gives the same bytes.

    Raises:
        ConfigError: There are fewer prompts than are to be held out.
    """
    world = GRAMMARS[config.name](config)
    files = {
        "validation": grammar.validation_pairs(world),
        "pairs": grammar.offline_pairs(world),
        "heldout": grammar.heldout_pairs(world),
        "prompts": grammar.bootstrap_prompts(world),
        "demonstrations": grammar.demonstrations(world),
    }
    model = partial(save_model, folder / "model", config.seed, world.vocabulary, world.positions)
    write_world(world, files, folder, model)


def write_world(world: World, files: dict[str, Rows], folder: Path, rest: Callable[[], None] = lambda: None) -> None:
    """Write a world's rows and its key; ``rest`` writes its other files.

    ``world.json`` is written last, so a folder that has it is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WORLD_FILE).unlink(missing_ok=True)
    for name, rows in files.items():
        _write_rows(folder / f"{name}.jsonl", rows)
    rest()
    content = {"version": VERSION, "config": asdict(world.config), "key": world.key()}
    _write_text(folder / WORLD_FILE, json.dumps({**content, "digest": content_id(content)}) + "\n")


def load_world(folder: Path) -> World:
    """Load a world from its folder; ``world.json`` is enough for scoring.

    Raises:
        StoreError: The file is missing, of another version or corrupt.
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
    config = _config(content["config"])
    return WORLDS[config.name](config, content["key"])


def read_truth(folder: Path, name: str = "pairs") -> Truth:
    """The hidden truth about a world's ``pairs``, ``heldout`` or ``validation``.

    Raises:
        StoreError: The file is missing, or is not a file of a world.
    """
    path = folder / f"{name}.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        columns = {key: [row[key] for row in rows] for key in ("pair_id", "gold_chosen", "gold_rejected", "flipped")}
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: {folder} holds no complete world") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} holds no pairs of a world ({error})") from None
    ids, chosen, rejected, flipped = columns.values()
    return Truth(ids, np.array(chosen, dtype=float), np.array(rejected, dtype=float), np.array(flipped, dtype=bool))


def liked(world: World, responses: Sequence[str]) -> np.ndarray:
    """The surface feature [N] that the labeller prefers and the gold reward ignores."""
    return surface(world.config.spurious, responses, world.style_token)


def _config(values: dict[str, Any]) -> WorldConfig:
    if (given := values["own"]) is not None:
        sections = {"prompts": SourceConfig(**given["prompts"]), "sampling": SamplingConfig(**given["sampling"])}
        values["own"] = OwnWorldConfig(**given | sections)
    return WorldConfig(**values)


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    _write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))

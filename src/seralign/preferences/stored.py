"""The folder of an unfinished labelling: chunks of groups with the opinions on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seralign.errors import StoreError
from seralign.preferences.groups import Group
from seralign.preferences.opinions import Opinion, from_json, to_json
from seralign.records import content_id
from seralign.runs.files import write_atomic

SETTINGS = "settings.json"
_NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Judged:
    """A group with what each signal says of it, and the columns to keep.

    Args:
        where: File and row of the prompt.
        prompt: As in the group.
        responses: As in the group [K].
        inputs: As in the group.
        kept: Values of the columns of the row.
        each: Values of the columns that the responses have in rows or objects of their own [K], or empty.
        opinions: One for each signal.
    """

    where: str
    prompt: Any
    responses: tuple[Any, ...]
    inputs: Mapping[str, Any]
    kept: Mapping[str, Any]
    each: tuple[Mapping[str, Any], ...]
    opinions: tuple[Opinion, ...]


@dataclass(frozen=True)
class Store:
    """The folder. ``begin`` has to be called first."""

    folder: Path

    def begin(self, identity: Mapping[str, Any], out: str) -> None:
        """Continue an earlier labelling with the same identity, or begin.

        Raises:
            StoreError: The folder has chunks of a labelling with other settings or data.
        """
        path = self.folder / SETTINGS
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = [key for key in identity if before.get(key) != content_id(identity[key])]
            if changed and any(self.folder.glob("chunk-*.jsonl")):
                raise StoreError(
                    f"{self.folder}: an unfinished labelling with other {', '.join(changed)}; delete the folder to "
                    f"begin again, or give another out than {out}"
                )
        text = json.dumps({key: content_id(value) for key, value in identity.items()}, indent=1)
        write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))

    def has(self, number: int) -> bool:
        """Whether a chunk is stored."""
        return self._path(number).exists()

    def put(self, number: int, judged: Iterable[Judged]) -> None:
        """Store a chunk."""
        lines = "".join(json.dumps(_line(one), ensure_ascii=False, default=str) + "\n" for one in judged)
        write_atomic(self._path(number), lambda part: part.write_text(lines, encoding="utf-8"))

    @property
    def network(self) -> bool:
        """Whether checks on a stored chunk could use the network."""
        return (self.folder / _NETWORK).exists()

    def keep_network(self) -> None:
        """Store that checks can use the network."""
        (self.folder / _NETWORK).touch()

    def read(self, numbers: Iterable[int]) -> Iterator[Judged]:
        """The groups of chunks, in order.

        Raises:
            StoreError: A chunk is missing or damaged.
        """
        for number in numbers:
            path = self._path(number)
            try:
                with path.open(encoding="utf-8") as stream:
                    yield from map(_judged, stream)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StoreError(f"{path} is damaged: {error}; delete it, and give the same command again") from None

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk-{number:06}.jsonl"


def judged(group: Group, opinions: Iterable[Opinion], keep: Iterable[str]) -> Judged:
    """A group with its opinions.

    Raises:
        DataError: It does not have a column to keep.
    """
    names = list(keep)
    own = [name for name in names if any(name in one for one in group.each)]
    missing = [name for name in names if name not in own and name not in group.shared]
    if missing:
        there = dict.fromkeys([*group.shared, *(name for one in group.each for name in one)])
        raise group.error(f"keep_columns: there is no column {missing[0]!r}; there are {', '.join(there)}")
    kept = {name: group.shared[name] for name in names if name not in own}
    rows = (group.row(index) for index in range(len(group.responses))) if own else ()
    each = tuple({name: row.get(name) for name in own} for row in rows)
    return Judged(group.where, group.prompt, group.responses, group.inputs, kept, each, tuple(opinions))


def _line(one: Judged) -> list[Any]:
    kept = [dict(one.kept), list(map(dict, one.each))]
    return [one.where, one.prompt, list(one.responses), dict(one.inputs), *kept, list(map(to_json, one.opinions))]


def _judged(line: str) -> Judged:
    where, prompt, responses, inputs, kept, each, opinions = json.loads(line)
    return Judged(where, prompt, tuple(responses), inputs, kept, tuple(each), tuple(map(from_json, opinions)))

"""The labelling queue: a file of pairs that a person or a program labels. Written whole, read back with every check."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seralign.errors import AwaitingLabels, DataError
from seralign.runs.files import write_atomic

LABELS = '"a", "b", "tie", "skip", or a number between 0 and 1, the probability that a is better'
_WORDS = {"a": 1.0, "b": 0.0, "tie": 0.5}
_SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Asked:
    """A pair in the queue.

    Args:
        pair_id: Its identity in the queue.
        prompt: Text or messages.
        inputs: Columns that belong to the prompt, such as ``system`` and ``tools``.
        response_a: Text or messages. Which response is a is drawn at random.
        response_b: The other one.
    """

    pair_id: str
    prompt: Any
    inputs: Mapping[str, Any]
    response_a: Any
    response_b: Any

    def row(self) -> dict[str, Any]:
        """The line of the queue, without a label."""
        ends = {"response_a": self.response_a, "response_b": self.response_b, "label": None}
        return {"pair_id": self.pair_id, "prompt": self.prompt, **self.inputs, **ends}


@dataclass(frozen=True)
class QueueLabels:
    """What a queue says.

    Args:
        p: The probability that response a is better, by pair; 0.5 for a tie.
        skipped: Pairs that the labeller left out.
        missing: Pairs without a label.
    """

    p: Mapping[str, float]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def undecided(self) -> dict[str, int]:
        """Numbers of the pairs without a better response, by reason."""
        ties = sum(p == 0.5 for p in self.p.values())
        return {"tie": ties, "skipped": len(self.skipped), "without a label": len(self.missing)}


def write_queue(path: Path, asked: Sequence[Asked]) -> None:
    """Write a queue without labels; the file is whole or not there."""
    lines = "".join(json.dumps(one.row(), ensure_ascii=False) + "\n" for one in asked)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda part: part.write_text(lines, encoding="utf-8"))


def read_queue(path: Path, asked: Sequence[Asked]) -> QueueLabels:
    """Read the labels. Rows may be in another order, and may have only ``pair_id`` and ``label``.

    Args:
        path: The queue.
        asked: The pairs that were asked about.

    Raises:
        DataError: A line is not an object, has an unknown pair, another text than the pair that was asked about, or a
            label that is none; or two lines contradict each other. Names the row.
    """
    pairs = {one.pair_id: one for one in asked}
    found: dict[str, tuple[float | str, str]] = {}
    for row, where in _rows(path):
        pair = _pair(row, where, pairs)
        label = _label(row.get("label"), where)
        if label is None:
            continue
        other, there = found.setdefault(pair.pair_id, (label, where))
        if other != label:
            raise DataError(
                f"{where}: contradicts {there}, which has another label of the pair {pair.pair_id!r}; keep one of them"
            )
    p = {name: label for name, (label, _) in found.items() if not isinstance(label, str)}
    skipped = tuple(name for name in pairs if name in found and name not in p)
    return QueueLabels(p, skipped, tuple(name for name in pairs if name not in found))


def complete(path: Path, asked: Sequence[Asked], allow_partial: bool, key: str) -> QueueLabels:
    """The labels of a queue that is finished.

    Args:
        path: The queue.
        asked: The pairs that were asked about.
        allow_partial: Whether some pairs may be without a label.
        key: The configuration key of ``allow_partial``, for messages.

    Raises:
        DataError: See ``read_queue``.
        AwaitingLabels: Pairs are without a label, and must not be; or no pair has one.
    """
    labels = read_queue(path, asked)
    done = len(asked) - len(labels.missing)
    if not done:
        raise AwaitingLabels(
            f'{path}: {len(asked)} pairs to label; set each "label" to {LABELS}, and give the same command again'
        )
    if labels.missing and not allow_partial:
        raise AwaitingLabels(
            f"{path}: {done} of {len(asked)} pairs have a label, the first without one is {labels.missing[0]!r}; label "
            f"the others, or set {key}: true to leave them out, and give the same command again"
        )
    return labels


def _rows(path: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    try:
        # Only at line feeds: a text may have other separators of lines inside.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error}); save it as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        where = f"{path}, row {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON ({error}); each line is one object") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: each line is an object with pair_id and label, got {row!r:.60}")
        yield row, where


def _pair(row: Mapping[str, Any], where: str, pairs: Mapping[str, Asked]) -> Asked:
    name = row.get("pair_id")
    if not isinstance(name, str):
        raise DataError(f"{where}: pair_id is missing, or no text; it says which pair the label is of")
    if name not in pairs:
        raise DataError(f"{where}: there is no pair {name!r} in this queue; remove the row")
    pair = pairs[name]
    for column in ("prompt", "response_a", "response_b"):
        if column in row and row[column] != getattr(pair, column):
            raise DataError(
                f"{where}: {column} is not that of the pair {name!r} as it was asked about, so its label may be of "
                "another text; restore it, or remove the row"
            )
    return pair


def _label(value: Any, where: str) -> float | str | None:
    if value is None:
        return None
    if isinstance(value, str):
        word = value.strip().lower()
        if not word:
            return None
        if word == _SKIP:
            return _SKIP
        if word in _WORDS:
            return _WORDS[word]
    elif isinstance(value, float) and 0.0 < value < 1.0:
        return value
    elif isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1):
        raise DataError(
            f"{where}: label is {json.dumps(value)}, which could be a probability or the number of a response; write "
            '"a" or "b" for the better response'
        )
    raise DataError(f"{where}: label must be {LABELS}, got {value!r:.60}")

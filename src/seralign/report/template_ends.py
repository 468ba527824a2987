"""What all prompts of a run begin and end with: a chat template's, which a list of prompts need not repeat. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import takewhile

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class TemplateEnds:
    """UTF-16 units, as JavaScript counts, that all prompts have in common: at their beginning, and at their end."""

    start: int
    end: int

    def to_dict(self) -> dict[str, int]:
        """As JSON."""
        return asdict(self)


def template_ends(prompts: pa.Array | pa.ChunkedArray) -> TemplateEnds:
    """What all of these texts begin and end with, in whole words; nothing where all are the same."""
    first = _extremes(prompts)
    if first is None:
        return TemplateEnds(0, 0)
    start = _common(*first)
    start = start[: 1 + max(start.rfind(mark) for mark in (" ", "\n", ">"))]
    last = _extremes(pc.utf8_reverse(prompts))  # pyright: ignore
    end = "" if last is None else _common(*last)[::-1]
    places = [place for mark in (" ", "\n", "<") if (place := end.find(mark)) >= 0]
    end = end[min(places) :] if places else ""
    shortest: int = pc.min(pc.utf8_length(prompts)).as_py()  # pyright: ignore
    # Beginning and end may share characters of a prompt with nothing between them.
    return TemplateEnds(_units(start), _units(end) if len(start) + len(end) <= shortest else 0)


def _extremes(texts: pa.Array | pa.ChunkedArray) -> tuple[str, str] | None:
    """The first and the last of the texts in order; None where all are the same. What these two begin with, all do."""
    ends = pc.min_max(texts).as_py()  # pyright: ignore
    return None if ends["min"] is None or ends["min"] == ends["max"] else (ends["min"], ends["max"])


def _common(one: str, other: str) -> str:
    both = zip(one, other, strict=False)
    return "".join(first for first, _ in takewhile(lambda pair: pair[0] == pair[1], both))


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2

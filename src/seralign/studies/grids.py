"""The settings of a method's grids."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from seralign.studies.config import MethodConfig


def points(method: MethodConfig) -> Iterator[dict[str, Any]]:
    """The settings of all grids, each once."""
    known: list[dict[str, Any]] = []
    for grid in method.grids:
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            if point not in known:
                known.append(point)
                yield point


def tried(method: MethodConfig) -> Iterator[dict[str, Any]]:
    """Each value of each grid once, with the first values of its other keys."""
    for grid in method.grids:
        first = {key: values[0] for key, values in grid.items()}
        yield first
        yield from (first | {key: value} for key, tried in grid.items() for value in tried[1:])

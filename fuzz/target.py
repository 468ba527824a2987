"""What is fuzzed: a maker of inputs, and the code that reads them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seralign.errors import SeralignError


class Unclean(Exception):
    """An input was refused without a word."""


@dataclass(frozen=True)
class Target:
    """Something that reads input.

    Args:
        name: Its name on the command line.
        share: Share of the inputs of a run over all targets.
        make: Makes an input. All randomness comes from the given generator, so that a seed names an input, hypothesis
            can shrink it and atheris can guide it.
        read: Reads an input; the folder is its own to write in.
    """

    name: str
    share: float
    make: Callable[[random.Random], Any]
    read: Callable[[Any, Path], None]


def attempt(target: Target, made: Any, folder: Path) -> bool:
    """Read one input; returns whether it was accepted.

    Raises:
        Unclean: it was refused without a word.
        Exception: whatever ended the reading in another way than a ``SeralignError``.
    """
    try:
        target.read(made, folder)
    except SeralignError as error:
        if not str(error).strip():
            raise Unclean("no message") from error
        return False
    return True

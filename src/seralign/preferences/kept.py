"""The forms of preference that a labelling writes, and the columns that its rows may not have besides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from seralign.checks import require
from seralign.data.columns import KNOWN_COLUMNS, WITH_PROMPT
from seralign.data.kinds import LABELS, NUMBERED, RANKED

Write = Literal["pairs", "rankings", "scores"]
PROVENANCE = ("label_signal", "label_source", "label_values")
"""Columns that say where a label is from: the signals, file and row of the prompt, and what each signal said."""

# Columns of the output that a column of the rows cannot have, or that would mean another thing for a pair.
_OF_PAIRS = ("prompt", "chosen", "rejected", "p", "p_b", "pair_id", *PROVENANCE, *WITH_PROMPT)
# With these, a row of a ranking or of a score could be read as one of another form.
_OF_OTHERS = frozenset({*_OF_PAIRS, *KNOWN_COLUMNS, *LABELS, *RANKED})


def check_keep_columns(names: Iterable[str], write: Write) -> None:
    """Check that columns to keep leave the meaning of the rows as it is.

    Raises:
        ConfigError: A name is one of the output's own, or changes how a row is read.
    """
    for name in names:
        require(name not in _OF_PAIRS, "keep_columns", "without names of columns that are written anyway", name)
        free = write == "pairs" or not (name in _OF_OTHERS or NUMBERED.fullmatch(name))
        require(free, "keep_columns", f"without names of columns that train reads, with write: {write}", name)

"""Rows of one response with a label, a score or a rank."""

from __future__ import annotations

import math
from typing import Any, Literal

from seralign.data import columns
from seralign.data.columns import Row
from seralign.data.content import Content, Inputs
from seralign.data.kinds import LABELS, THUMBS, score_columns
from seralign.data.label import is_number, read_pair_id, read_weight
from seralign.data.making import make_example
from seralign.data.parts import prompt_and_responses, unread_columns
from seralign.data.place import Place
from seralign.data.raw import Drop, RawExample
from seralign.data.values import shown
from seralign.records import Label, Preference, Ranking, Scores

NO_LABEL = "no label"
NO_SCORE = "no score"
NO_RANK = "no rank"


def read_single(row: Row, form: Literal["label", "score", "rank"], place: Place) -> RawExample | Drop:
    """Read a row of a prompt with one response, or of a conversation that ends with it.

    A score or a rank can only be compared with those of other rows with the same prompt
    (``seralign.preferences.converting`` joins them). A row whose label, score or rank is null is dropped.

    Args:
        row: With the columns of a demonstration.
        form: What it has besides.
        place: The row, for messages.

    Raises:
        DataError: The label, score or rank cannot be read, or there are several scores; or as ``read_pair``.
    """
    column = _column(row, form, place)
    names = columns.demonstration_columns(row, place)
    pair_id, weight = read_pair_id(row, place), read_weight(row, place)
    unread = unread_columns(row, (*names, column), ("weight", "pair_id"), place)
    if row[column] is None:
        return Drop({"label": NO_LABEL, "score": NO_SCORE, "rank": NO_RANK}[form], unread)
    preference = _preference(row[column], form, column, place)
    parts = prompt_and_responses(row, names, place)
    if isinstance(parts, str):
        return Drop(parts, unread)
    return judged_example(parts, preference, pair_id, weight, unread, place)


def judged_example(
    parts: tuple[Content, tuple[Content, ...], Inputs],
    preference: Preference,
    pair_id: str | None,
    weight: float,
    unread: tuple[str, ...],
    place: Place,
) -> RawExample:
    """An example from its prompt, responses and inputs.

    If the row has no id, its preference is part of the identity: several rows may judge the same response.
    """
    distinct_by = (str(preference.stored),)
    return make_example(parts, preference, pair_id, weight, (*unread, *place.unread), place, distinct_by=distinct_by)


def number(value: Any, what: str, place: Place) -> float:
    """A finite number, also as text.

    Raises:
        DataError: It is none.
    """
    if isinstance(value, str) and is_number(value):
        value = float(value)
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise place.error(f"{what} must be a finite number, got {shown(value)}")
    return found


def rank(value: Any, what: str, place: Place) -> int:
    """A whole number of at least 0.

    Raises:
        DataError: It is none.
    """
    found = number(value, what, place)
    if found < 0 or found != int(found):
        raise place.error(f"{what} must be a rank, a whole number with the best lowest, got {value!r}")
    return int(found)


def _column(row: Row, form: str, place: Place) -> str:
    if form == "label":
        return next(name for name in LABELS if name in row)
    if form == "rank" or "score" in row:
        return form
    scores = score_columns(row)
    if len(scores) > 1:
        raise place.error(
            f"{columns.listed_names(scores)} are several scores; name the one to train on: "
            f"{place.reading.key}.columns: {{score: {scores[0]}}}"
        )
    return scores[0]


def _preference(value: Any, form: str, column: str, place: Place) -> Preference:
    if form == "label":
        found = THUMBS.get(value.strip().lower()) if isinstance(value, str) else value
        if not (isinstance(found, bool) or (isinstance(found, int | float) and found in (0, 1))):
            raise place.error(f"{column} must be true or false (or 1 or 0), got {shown(value)}")
        return Label(bool(found))
    if form == "score":
        return Scores((number(value, column, place),))
    return Ranking((rank(value, column, place),))

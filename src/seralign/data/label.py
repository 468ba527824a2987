"""The label of a pair: which response is better and with what probability, its weight and its id."""

from __future__ import annotations

import math
import re

from seralign.data.columns import Row
from seralign.data.place import Place

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def is_number(text: str) -> bool:
    """Whether a text, such as a cell of a table, is a decimal number; spaces around it do not matter."""
    return _NUMBER.fullmatch(text.strip()) is not None


def first_is_better(row: Row, labelled: bool, place: Place) -> float:
    """The probability that the first response is better: ``p``, 1 if absent; for two answers 1 - ``p_b``.

    Raises:
        DataError: It is not a probability, or ``p_b`` is missing.
    """
    if not labelled:
        p = _probability(row, "p", place)
        return 1.0 if p is None else p
    p_b = _probability(row, "p_b", place)
    if p_b is None:
        raise place.error("p_b is missing: the probability that response_b is better than response_a")
    return 1.0 - p_b


def read_weight(row: Row, place: Place) -> float:
    """The pair's weight in the loss; 1 if absent.

    Raises:
        DataError: It is not finite and greater than 0.
    """
    rule = "a finite number greater than 0"
    value = _number(row, "weight", place, rule)
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise place.error(f"weight must be {rule}, got {value!r}")
    return 1.0 if value is None else value


def read_pair_id(row: Row, place: Place) -> str | None:
    """The pair's id, or None.

    Raises:
        DataError: It is neither text nor a whole number.
    """
    value = row.get("pair_id")
    if value is None or (isinstance(value, str) and value):
        return value
    if type(value) is int:
        return str(value)
    raise place.error(f"pair_id must be text or a whole number, got {value!r}")


def _number(row: Row, name: str, place: Place, rule: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise place.error(f"{name} must be {rule}, got {type(value).__name__} {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise place.error(f"{name} must be {rule}, got a number of {len(str(value))} digits") from None


def _probability(row: Row, name: str, place: Place) -> float | None:
    rule = "a probability in [0, 1]"
    value = _number(row, name, place, rule)
    if value is not None and not 0.0 <= value <= 1.0:
        raise place.error(f"{name} must be {rule}, got {value!r}")
    return value

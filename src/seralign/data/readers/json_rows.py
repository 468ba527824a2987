"""Rows of JSON, a list of objects or one object a line. Values keep their JSON types.

A list is held in memory as text while it is read; lines are read one at a time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from seralign.data.readers.part import Located, Part, measured, place
from seralign.data.readers.streams import readable, text_lines, whole_text
from seralign.errors import DataError

MAX_DEPTH = 100
"""Deepest nesting of a row. Templates and digests recurse into values, and Python limits that to about 1,000 levels."""

_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Bytes to read until the first character that is not white space.
_START = 4096


def json_part(file: str, start: Callable[[], BinaryIO]) -> Part:
    """A JSON file. It is a list if its first character is ``[``.

    Args:
        file: Its name, for messages.
        start: Opens it for reading bytes.
    """

    def read() -> Iterator[Located]:
        with readable(file):
            with start() as stream:
                is_list = stream.read(_START).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
            with start() as stream:
                yield from _list_rows(stream, file) if is_list else _line_rows(stream, file)

    return Part(read, lambda limit: measured(read(), limit))


def _line_rows(stream: BinaryIO, file: str) -> Iterator[Located]:
    row = 0
    for number, line in text_lines(stream, file):
        if line.isspace() or not line:
            continue
        row += 1
        where = place(file, row, number)
        if line.strip() == "{":
            raise DataError(f"{where} spans several lines; JSON must be a list of objects, or one object a line")
        yield _row(json_value(line.rstrip("\r\n"), where), where), where


def _list_rows(stream: BinaryIO, file: str) -> Iterator[Located]:
    text = whole_text(stream, file)
    at = _skip(text, _skip(text, 0) + 1)
    row, line, counted = 0, 1, 0
    if text[at : at + 1] == "]":
        _check_end(text, at, file)
        return
    while True:
        row += 1
        line, counted = line + text.count("\n", counted, at), at
        where = place(file, row, line)
        value, at = _parsed(text, at, where)
        yield _row(value, where), where
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            _check_end(text, at, file)
            return
        if text[at : at + 1] != ",":
            raise DataError(f"{where} is not followed by a comma or the end of the list; is the file truncated?")
        at = _skip(text, at + 1)


def json_value(text: str, where: str) -> Any:
    """Parse a JSON text into Python values.

    Raises:
        DataError: It is not JSON; or has a repeated key in an object, NaN, infinity, half of a surrogate pair, or
            values nested more than ``MAX_DEPTH`` levels.
    """
    value, end = _parsed(text, _skip(text, 0), where)
    end = _skip(text, end)
    if end < len(text):
        raise DataError(f"{where} is not valid JSON: more text follows its end, at column {end + 1}")
    return value


def _parsed(text: str, at: int, where: str) -> tuple[Any, int]:
    try:
        value, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        # In a list, the error can be some lines below the start of the row.
        inner = f"line {error.lineno} " if "\n" in text[at : error.pos] else ""
        raise DataError(f"{where} is not valid JSON: {error.msg} at {inner}column {error.colno}") from None
    except RecursionError:
        raise _too_deep(where) from None
    except _NotJson as error:
        raise DataError(f"{where} is not valid JSON: {error}") from None
    except ValueError:
        # Python does not read numbers of more than sys.get_int_max_str_digits() digits.
        raise DataError(f"{where} holds a number with too many digits") from None
    source = text[at:end]
    if source.count("[") + source.count("{") > MAX_DEPTH and _is_deep(value):
        raise _too_deep(where)
    if _SURROGATE.search(source):
        _check_surrogates(value, where)
    return value, end


def _row(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} is {_NAMES[type(value)]}; a row is a JSON object with the columns' names as keys")
    return value


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _check_end(text: str, at: int, file: str) -> None:
    end = _skip(text, at + 1)
    if end < len(text):
        line = text.count("\n", 0, end) + 1
        raise DataError(f"{file} is not valid JSON: more text follows the end of the list, on line {line}")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
        level = [child for child in level if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _too_deep(where: str) -> DataError:
    return DataError(f"{where} is nested too deeply; at most {MAX_DEPTH} levels")


def _check_surrogates(value: Any, where: str) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise DataError(f"{where} holds {half}, half of a surrogate pair, which is not a character") from None


class _NotJson(ValueError):
    """Accepted by Python's parser but not valid in JSON."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _NotJson(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice in one object")
    return made


def _constant(name: str) -> float:
    raise _NotJson(f"{name} is not a JSON number; leave the value out or write null")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotJson(f"the number {text} is too large")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
_NAMES = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}

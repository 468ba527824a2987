"""Rows of CSV: every cell is text, unchanged; only an empty cell is null."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

from seralign.data.readers.part import Located, Part, check_names, measured, place
from seralign.data.readers.streams import readable, text_lines
from seralign.errors import DataError

MAX_CELL = 64 * 2**20
"""Longest cell in characters. Without a limit, an unclosed quote would read the rest of the file into memory."""
# Delimiters in files that are called CSV.
_MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def csv_part(file: str, start: Callable[[], BinaryIO], delimiter: str) -> Part:
    """A CSV file with a header, as in RFC 4180.

    Args:
        file: Its name, for messages.
        start: Opens it for reading bytes.
        delimiter: The character between two cells.
    """

    def read() -> Iterator[Located]:
        with readable(file), start() as stream:
            records = _records(stream, file, delimiter)
            names = _header(records, file)
            for row, (cells, line) in enumerate(records, start=1):
                where = place(file, row, line)
                if len(cells) != len(names):
                    raise DataError(
                        f"{where} has {len(cells)} cells and the header {len(names)}; "
                        "a cell that holds a delimiter, a quote or a line break needs quotes around it"
                    )
                yield {name: cell or None for name, cell in zip(names, cells, strict=True)}, where

    return Part(read, lambda limit: measured(read(), limit), all_text=True)


def _header(records: Iterator[tuple[list[str], int]], file: str) -> list[str]:
    names, _ = next(records, ([], 0))
    check_names(names, file)
    other = next((name for mark, name in _MARKS.items() if len(names) == 1 and mark in names[0]), None)
    if other is not None:
        raise DataError(f"{file} has {other} between its cells; a .csv file needs commas, and a .tsv file tabs")
    return names


def _records(stream: BinaryIO, file: str, delimiter: str) -> Iterator[tuple[list[str], int]]:
    """The cells of each record without blank lines, and the line on which it begins."""
    # The limit is global for the process; the default is 128 kB.
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(_lines(stream, file), delimiter=delimiter, strict=True)
    row, line = 0, 1
    try:
        for cells in reader:
            if cells:
                yield cells, line
                row += 1
            line = reader.line_num + 1
    except csv.Error as error:
        where = place(file, row, line) if row else f"{file} line {line}"
        raise DataError(f"{where} {_explained(error)}") from None


def _explained(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "opens a quote that is never closed"
    if "field larger" in text:
        return f"has a cell of more than {MAX_CELL:,} characters; is a quote never closed?"
    if "new-line character" in text:
        return "holds a carriage return; a cell that holds one needs quotes around it"
    if "expected after" in text:
        return "has more text after a closing quote; a quote inside a cell is written twice"
    return f"is not valid CSV: {text}"


def _lines(stream: BinaryIO, file: str) -> Iterator[str]:
    for number, line in text_lines(stream, file):
        if "\0" in line:
            raise DataError(f"{file} line {number} holds a NUL byte; a CSV file is UTF-8 text")
        # In files of old Macs a lone carriage return ends a line, and there are no other line ends. Elsewhere outside
        # quotes it is an error, since it can be text or a line end.
        one_line = number == 1 and not line.endswith("\n")
        yield from io.StringIO(line, newline="") if one_line else (line,)

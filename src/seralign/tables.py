"""Tables of figures for pages, the terminal and Markdown, with the same number format in all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Generic, TypeVar

import rich.table
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from seralign.intervals import Interval
from seralign.terminal import printable_line

Row = TypeVar("Row")

ABSENT = "–"

# The space after a column, and the border around it.
_PADDING, _BORDER = 1, 1


@dataclass(frozen=True)
class Table:
    """A table of formatted cells; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table: one figure of a record.

    Args:
        title: Name of the figure, the same in every table.
        cell: Formats the figure of a record.
        unit: Unit of the figure, if it has one.
    """

    title: str
    cell: Callable[[Row], str]
    unit: str = ""

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


def table(caption: str, columns: Sequence[Column[Row]], rows: Iterable[Row]) -> Table:
    """A table with one row for each record."""
    headings = tuple(column.heading for column in columns)
    return Table(caption, headings, tuple(tuple(column.cell(row) for column in columns) for row in rows))


def without_empty(given: Table) -> Table:
    """Remove columns that are empty in every row; the first column stays."""
    used = [at for at in range(len(given.columns)) if at == 0 or any(row[at] != ABSENT for row in given.rows)]
    rows = tuple(tuple(row[at] for at in used) for row in given.rows)
    return Table(given.caption, tuple(given.columns[at] for at in used), rows)


@dataclass(frozen=True)
class Fitted:
    """A table for the terminal. A table that is wider than the terminal is continued below, with its names repeated,
    rather than with broken words and numbers.

    Args:
        given: The table.
        names: Number of columns, from the first, that hold names.
        texts: Headings of other columns that hold text. Text wraps at spaces; numbers do not wrap.
        footer: A last row, with a cell for each column; or empty.
    """

    given: Table
    names: int
    texts: frozenset[str]
    footer: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least, names = [self._least(place) for place in self._places], self._places[: self.names]
        parts: list[list[int]] = []
        for place in self._places[self.names :]:
            if not parts or _total([least[at] for at in (*names, *parts[-1], place)]) > options.max_width:
                parts.append([])
            parts[-1].append(place)
        for number, part in enumerate(parts or [[]]):
            places = [*names, *part]
            widths = {at: least[at] for at in places}
            spare = options.max_width - _total(widths.values())
            for at in places:
                more = min(max(0, spare), self._whole(at) - widths[at])
                widths[at] += more
                spare -= more
            yield self._part(None if spare < 0 else widths, places, self.given.caption if number == 0 else "")

    @property
    def _places(self) -> list[int]:
        return [*range(len(self.given.columns))]

    def _is_text(self, place: int) -> bool:
        return place < self.names or self.given.columns[place] in self.texts

    def _cells(self, place: int) -> list[str]:
        return [row[place] for row in self.given.rows] + ([self.footer[place]] if self.footer else [])

    def _least(self, place: int) -> int:
        """Width in which no word and no number is broken."""
        cells = self._cells(place)
        words = [word for cell in cells for word in cell.split()] if self._is_text(place) else cells
        return max(map(cell_len, [*self.given.columns[place].split(), *words]), default=0)

    def _whole(self, place: int) -> int:
        """Width in which nothing wraps."""
        return max(map(cell_len, [self.given.columns[place], *self._cells(place)]))

    def _part(self, widths: Mapping[int, int] | None, places: Sequence[int], title: str) -> rich.table.Table:
        """Some columns. Without widths they are too wide for the terminal, and are broken as they must be."""
        made = rich.table.Table(
            title=title or None,
            show_footer=bool(self.footer),
            title_justify="left",
            title_style="bold",
            header_style="bold",
            box=box.SIMPLE_HEAD,
            padding=(0, _PADDING, 0, 0),
        )
        for place in places:
            made.add_column(
                self.given.columns[place],
                self.footer[place] if self.footer else "",
                justify="left" if self._is_text(place) else "right",
                overflow="fold",
                width=None if widths is None else widths[place],
            )
        for row in self.given.rows:
            made.add_row(*(Text(row[place]) for place in places))
        return made


def _total(widths: Iterable[int]) -> int:
    """Width of a table with columns of some widths."""
    return _BORDER + sum(width + _PADDING + _BORDER for width in widths)


def terminal(given: Table, names: int = 1, *, texts: Collection[str] = (), footer: Sequence[str] = ()) -> Fitted:
    """Format a table for the terminal; see ``Fitted``."""
    return Fitted(given, names, frozenset(texts), tuple(footer))


def markdown(given: Table) -> str:
    """Format a table as Markdown, without the caption."""
    lines = [given.columns, ("---",) * len(given.columns), *given.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(text: str) -> str:
    """A user's text as code in Markdown, escaped so that none of it becomes Markdown, HTML or a link."""
    shown = printable_line(text) or " "
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    space = " " if shown.startswith(("`", " ")) or shown.endswith(("`", " ")) else ""
    return f"{fence}{space}{shown}{space}{fence}"


def number(value: float | None, digits: int) -> str:
    """A number with thousands separators and a true minus sign.

    Halves are rounded away from zero in decimal: 0.6025 becomes 0.603 and 60.3%.
    """
    return ABSENT if value is None else f"{_rounded(value, digits):,.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int) -> str:
    """A number with its sign."""
    return ABSENT if value is None else f"{_rounded(value, digits):+,.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return ABSENT if value is None else f"{_rounded(value, digits + 2).scaleb(2):,.{digits}f}%".replace("-", "−")


def _rounded(value: float, digits: int) -> Decimal:
    # Twelve digits, so that 1 − 0.3905 is 0.6095 in spite of binary rounding.
    written = Decimal(f"{value:.12g}")
    if not written.is_finite() or abs(written) > 10**15:
        return written
    # Adding zero makes a negative zero positive.
    return written.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) + 0


def interval(value: Interval | None, digits: int) -> str:
    """A mean with half the width of its interval; or with both ends if the interval is not symmetric."""
    if value is None:
        return ABSENT
    if value.low is None or value.high is None:
        return number(value.mean, digits)
    below, above = value.mean - value.low, value.high - value.mean
    if abs(above - below) >= 10**-digits:
        return f"{number(value.mean, digits)} ({number(value.low, digits)} to {number(value.high, digits)})"
    return f"{number(value.mean, digits)} ± {number((above + below) / 2, digits)}"


def share(value: Interval | None, digits: int = 1) -> str:
    """A share with its interval, as percentages: ``48.4% (32.9 to 64.3)``."""
    if value is None:
        return ABSENT
    if value.low is None:
        return percent(value.mean, digits)
    ends = " to ".join(percent(end, digits).removesuffix("%") for end in (value.low, value.high))
    return f"{percent(value.mean, digits)} ({ends})"


def quantity(count: int, noun: str) -> str:
    """A count with its noun, such as ``1 pair`` or ``1,200 pairs``. For nouns whose plural ends in -s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def counted(counts: Mapping[str, int]) -> str:
    """Counts as text, such as ``1,203 tie, 1 empty prompt``; empty if there are none."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def duration(seconds: float) -> str:
    """Seconds as text: ``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"

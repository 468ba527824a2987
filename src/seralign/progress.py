"""Progress bars on standard error: how much is done, at what rate, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from seralign import distributed, terminal

# 80 columns would break the lines of a log file.
console = terminal.console(stderr=True, width_in_files=140)

_LINE_SECONDS = 30.0


class Bar(Protocol):
    """Progress of a piece of work."""

    def advance(self, amount: int = 1) -> None:
        """Add ``amount`` to what is done."""
        ...

    def at(self, completed: int) -> None:
        """Set what is done to ``completed``. The first call sets what was done before this process."""
        ...

    def note(self, text: str) -> None:
        """Set the text at the end of the line, such as a metric."""
        ...


@contextmanager
def bar(description: str, total: int, unit: str = "it") -> Iterator[Bar]:
    """Show progress while the block runs: a bar on a terminal, or else lines. Only the main process prints."""
    if not distributed.is_main():
        yield _Silent()
    elif console.is_terminal:
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
        ) as progress:
            yield _Drawn(progress, description, total)
    else:
        lines = _Lines(description, total, unit)
        yield lines
        lines.end()


def say(text: str) -> None:
    """Print a line for the user, from the main process. If nobody can read it, the work continues."""
    if not distributed.is_main():
        return
    with suppress(OSError):
        console.print(Text(terminal.printable(text)))


@cache
def say_once(text: str) -> None:
    """Print a line at most once per process."""
    say(text)


class _Silent:
    def advance(self, amount: int = 1) -> None: ...

    def at(self, completed: int) -> None: ...

    def note(self, text: str) -> None: ...


class _Drawn:
    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(terminal.printable_line(description), total=total, note="")

    def advance(self, amount: int = 1) -> None:
        self._progress.advance(self._task, amount)

    def at(self, completed: int) -> None:
        self._progress.update(self._task, completed=completed)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=terminal.printable_line(text))


class _Lines:
    def __init__(self, description: str, total: int, unit: str) -> None:
        self._words = (description, unit)
        self._total = total
        self._done = 0
        self._before: int | None = None
        self._note = ""
        self._began = self._told = time.monotonic()

    def advance(self, amount: int = 1) -> None:
        self._before = self._before or 0
        self.at(self._done + amount)

    def at(self, completed: int) -> None:
        self._before = completed if self._before is None else self._before
        self._done = completed
        # Complete work has its line at the end of the block, once its last figure is known.
        if completed < self._total and time.monotonic() - self._told > _LINE_SECONDS:
            self._tell()

    def note(self, text: str) -> None:
        self._note = text

    def end(self) -> None:
        """The closing line."""
        self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        description, unit = self._words
        seconds = max(self._told - self._began, 1e-9)
        rate = (self._done - (self._before or 0)) / seconds
        left = timedelta(seconds=round((self._total - self._done) / rate)) if rate > 0 else "?"
        ending = f"{left} left" if self._done < self._total else f"took {timedelta(seconds=round(seconds))}"
        say(f"{description}: {self._done}/{self._total}, {_rate(rate, unit)}, {ending}  {self._note}".rstrip())


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _rate(speed, self._unit))


def _rate(speed: float, unit: str) -> str:
    """A speed in units a second, or the seconds or minutes of one where they are slow."""
    if speed == 0 or speed >= 0.95:
        return f"{speed:,.1f} {unit}/s"
    one = unit.removesuffix("s")
    return f"{1 / speed:,.1f} s/{one}" if speed > 1 / 60 else f"{1 / speed / 60:,.1f} min/{one}"

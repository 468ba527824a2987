"""Progress of long work, on standard error: how far, how fast, how long still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from seralign import distributed

# Output that goes to a file has no width of its own; 80 columns would break the lines.
console = Console(stderr=True, highlight=False)
if not console.is_terminal:
    console = Console(stderr=True, highlight=False, width=140)


class Bar:
    """One line of progress; ``advance`` moves it, ``note`` adds a few words at its end."""

    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")

    def advance(self, amount: int = 1) -> None:
        """Count ``amount`` more as done."""
        self._progress.advance(self._task, amount)

    def at(self, completed: int) -> None:
        """Count ``completed`` as done in all."""
        self._progress.update(self._task, completed=completed)

    def note(self, text: str) -> None:
        """Words at the end of the line, a figure that moves."""
        self._progress.update(self._task, note=text)


@contextmanager
def bar(description: str, total: int, unit: str = "it") -> Iterator[Bar]:
    """A progress line while the block runs; silent in all processes but the main one."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
        console=console,
        disable=not distributed.is_main(),
    ) as progress:
        yield Bar(progress, description, total)


def say(text: str) -> None:
    """A line for the user, from the main process alone."""
    if distributed.is_main():
        console.print(text, markup=False)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {self._unit}/s")

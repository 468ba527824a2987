"""The console for standard output. Control characters in its input are escaped."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from seralign import terminal


def stdout() -> Console:
    """A console. In a file, its width is 160 columns, because 80 would cut tables."""
    return terminal.console(width_in_files=160)


def tell(text: str) -> None:
    """Print one line of plain text of any length."""
    stdout().print(Text(terminal.printable(text)), soft_wrap=True)

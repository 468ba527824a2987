"""Standard output, where every command prints to: what it is given can do nothing to a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from seralign import terminal


def stdout() -> Console:
    """A console; output that goes to a file has no width of its own, and 80 columns would cut tables."""
    return terminal.console(width_in_files=160)


def tell(text: str) -> None:
    """A line of plain text, however long."""
    stdout().print(Text(terminal.printable(text)), soft_wrap=True)

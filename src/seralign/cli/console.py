"""Standard output for tables."""

from __future__ import annotations

from rich.console import Console


def stdout() -> Console:
    """A console; output that goes to a file has no width of its own, and 80 columns would cut tables."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)

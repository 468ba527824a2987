"""``seralign show``: what a run did, round by round."""

from __future__ import annotations

import argparse
import json

from rich.console import Console

from seralign.store import Run, read_run


def main(arguments: list[str]) -> None:
    """``RUN [--json]``"""
    parser = argparse.ArgumentParser("seralign show", description="What a run did, round by round.")
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument("--json", action="store_true", help="the same figures, by name")
    given = parser.parse_args(arguments)
    run = read_run(given.run)
    if given.json:
        from seralign.report.figures import run_figures

        print(json.dumps(run_figures(run), indent=1, allow_nan=False))
    else:
        print_run(run)


def print_run(run: Run) -> None:
    """The run's tables, on standard output."""
    from seralign.report.figures import run_figures
    from seralign.report.text import run_tables

    # Piped output has no width of its own; a table cut at 80 columns would lose figures.
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(run_tables(run_figures(run)))

"""``seralign show``: print what a run did, round by round."""

from __future__ import annotations

import json

from seralign.cli.console import stdout
from seralign.config.flags import Parser
from seralign.runs import Run, read_run


def main(arguments: list[str]) -> None:
    """``RUN [--json]``"""
    parser = Parser("seralign show", description="Print what a run did, round by round, and warnings.")
    parser.add_argument("run", metavar="RUN", help="the folder of the run")
    parser.add_argument("--json", action="store_true", help="print the same figures by name")
    given = parser.parse_args(arguments)
    run = read_run(given.run)
    if given.json:
        from seralign.report.figures import figures_json, run_figures

        print(json.dumps(figures_json(run_figures(run)), indent=1, allow_nan=False))
    else:
        print_run(run)


def print_run(run: Run) -> None:
    """Print the tables of a run to standard output."""
    from seralign.report.figures import run_figures
    from seralign.report.text import run_tables

    stdout().print(run_tables(run_figures(run)))

"""``seralign lab``: studies in worlds where the true quality of every answer is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from seralign.config.flags import Parser
from seralign.errors import ConfigError
from seralign.runs.typed import to_json

if TYPE_CHECKING:
    from seralign.studies.figures import StudyFigures

USAGE = """usage: seralign lab run STUDY.yaml [--jobs N] [--key value ...]
       seralign lab status STUDY [--json]
       seralign lab compare STUDY [--json]
       seralign lab report STUDY [--page FILE]

Studies compare methods in worlds where the true quality of every answer is known.

commands:
  run       start a study, or resume it; every key of the file is also a flag, e.g. --seeds '[0, 1]',
            --base.training.max_steps 50, --methods.dpo.grid.objective.beta '[0.1, 0.4]'
  status    print how far it is, and how long the rest will take
  compare   print a table: each method at its best setting, compared with the baseline at its best setting
  report    write the same as a Markdown page with plots"""


def main(arguments: list[str]) -> None:
    """``run STUDY.yaml | status STUDY | compare STUDY | report STUDY``"""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return
    name, *rest = arguments
    commands = {"run": _run, "status": _status, "compare": _compare, "report": _report}
    if name not in commands:
        raise ConfigError(f"no command lab {name!r}; the commands are {', '.join(commands)}")
    commands[name](rest)


def _run(arguments: list[str]) -> None:
    parser = Parser("seralign lab run", usage=USAGE.splitlines()[0][7:])
    parser.add_argument("study", metavar="STUDY.yaml")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes; if above 1, each has one thread")
    given, rest = parser.parse_known_args(arguments)
    if given.jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, got {given.jobs}")

    from seralign.config.sections import parse_overrides
    from seralign.studies.config import load_study
    from seralign.studies.running import run_study

    study = load_study(given.study, parse_overrides(rest))
    run_study(study, given.jobs)
    _print(Path(study.out))


def _status(arguments: list[str]) -> None:
    parser = Parser("seralign lab status", description="Print how far a study is, and how long the rest will take.")
    parser.add_argument("study", metavar="STUDY", help="the folder of the study")
    parser.add_argument("--json", action="store_true", help="print the same figures by name")
    given = parser.parse_args(arguments)

    from seralign.cli.console import stdout
    from seralign.studies.status import status_table, study_status

    status = study_status(given.study)
    if given.json:
        found = to_json(status) | {"time_left": status.time_left}
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        stdout().print(status_table(status))


def _compare(arguments: list[str]) -> None:
    parser = Parser("seralign lab compare", description="Print the results of a study so far.")
    parser.add_argument("study", metavar="STUDY", help="the folder of the study")
    parser.add_argument("--json", action="store_true", help="print all figures by name")
    given = parser.parse_args(arguments)
    if given.json:
        print(json.dumps(to_json(_figures(given.study)), indent=1, allow_nan=False))
    else:
        _print(given.study)


def _report(arguments: list[str]) -> None:
    parser = Parser("seralign lab report", description="Write the results of a study as a page with plots.")
    parser.add_argument("study", metavar="STUDY", help="the folder of the study")
    parser.add_argument("--page", type=Path, help="the Markdown file; plots go to a folder of the same name next to it")
    given = parser.parse_args(arguments)

    from seralign.cli.console import tell
    from seralign.studies.page import write_page

    page = given.page or Path(given.study) / "report.md"
    if not page.suffix or page.is_dir():
        raise ConfigError(
            f"--page {page}: give the name of a Markdown file, e.g. {page}.md; plots go to a folder next to it"
        )
    write_page(_figures(given.study), page)
    tell(str(page))


def _figures(study: str | Path) -> StudyFigures:
    from seralign.studies.results import study_figures

    return study_figures(study)


def _print(study: str | Path) -> None:
    from seralign.cli.console import stdout
    from seralign.studies.tables import study_tables

    stdout().print(study_tables(_figures(study)))

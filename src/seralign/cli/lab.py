"""``seralign lab``: studies in worlds where the true quality of every answer is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seralign.config.flags import Parser
from seralign.errors import ConfigError
from seralign.runs.typed import to_json

if TYPE_CHECKING:
    from seralign.studies.figures import StudyFigures

USAGE = """usage: seralign lab run STUDY.yaml [--jobs N] [--key value ...]
       seralign lab status STUDY [--json]
       seralign lab compare STUDY [--json]
       seralign lab report STUDY [--page FILE]
       seralign lab judge [--judge NAME] [--world NAME] [--prompts N] [--page FILE]

Studies compare methods in worlds where the true quality of every answer is known.

commands:
  run       start a study, or resume it; every key of the file is also a flag, e.g. --seeds '[0, 1]',
            --base.training.max_steps 50, --methods.dpo.grid.objective.beta '[0.1, 0.4]'
  status    print how far it is, and how long the rest will take
  compare   print a table: each method at its best setting, compared with the baseline at its best setting
  report    write the same as a Markdown page with plots
  judge     measure a judge, or one with known biases, where the truth is known"""


def main(arguments: list[str]) -> None:
    """``run STUDY.yaml | status STUDY | compare STUDY | report STUDY | judge``"""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return
    name, *rest = arguments
    commands = {"run": _run, "status": _status, "compare": _compare, "report": _report, "judge": _judge}
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


def _judge(arguments: list[str]) -> None:
    parser = Parser(
        "seralign lab judge",
        description="Measure a judge in a world where the true quality of every answer is known: its accuracy, its "
        "biases, and what they do to win rates.",
        epilog="Settings of a judge are flags as in a configuration: --judge_options.KEY VALUE.",
    )
    parser.add_argument("--judge", default="simulated", help="as in evaluation.judge, or simulated (the default)")
    parser.add_argument("--gold", type=float, default=2.0, help="simulated: log-odds of one point of gold reward")
    parser.add_argument("--position", type=float, default=0.0, help="simulated: log-odds of the first place")
    parser.add_argument("--length", type=float, default=0.0, help="simulated: log-odds of a much longer answer")
    parser.add_argument("--world", default="elaborations", help="clauses, elaborations (the default) or sums")
    parser.add_argument("--prompts", type=int, default=400, help="number of prompts, with four comparisons each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verdicts", type=Path, help="a file that keeps the verdicts; none in it is asked again")
    parser.add_argument("--page", type=Path, help="write the tables to this Markdown file, with a picture beside it")
    parser.add_argument("--json", action="store_true", help="print all figures by name")
    given, rest = parser.parse_known_args(arguments)

    from seralign.config.sections import parse_overrides
    from seralign.studies.judging import SIMULATED, Asked, JudgeBias, judge_study, judge_tables, write_judge_page

    if given.prompts < 2:
        raise ConfigError(f"--prompts must be at least 2, got {given.prompts}")
    for name in ("gold", "position", "length"):
        if not math.isfinite(getattr(given, name)):
            raise ConfigError(f"--{name} must be a finite number, got {getattr(given, name)}")
    if given.page is not None and (not given.page.suffix or given.page.is_dir()):
        raise ConfigError(f"--page {given.page}: give the name of a Markdown file, e.g. {given.page}.md")
    prefix = "judge_options."
    options: dict[str, Any] = {}
    for key, value in parse_overrides(rest).items():
        if not key.startswith(prefix) or given.judge == SIMULATED:
            raise ConfigError(f"--{key}: unknown option; seralign lab judge --help lists the options")
        options[key.removeprefix(prefix)] = value
    bias = JudgeBias(given.gold, given.position, given.length)
    asked = Asked(given.judge, options, bias)
    study = judge_study(asked, given.world, given.prompts, given.seed, given.verdicts)
    if given.page is not None:
        write_judge_page(study, given.page)
    if given.json:
        print(json.dumps(to_json(study), indent=1, allow_nan=False))
        return
    from seralign.cli.console import stdout, tell
    from seralign.tables import terminal

    for table in judge_tables(study):
        stdout().print(terminal(table))
    if given.page is not None:
        tell(str(given.page))


def _figures(study: str | Path) -> StudyFigures:
    from seralign.studies.results import study_figures

    return study_figures(study)


def _print(study: str | Path) -> None:
    from seralign.cli.console import stdout
    from seralign.studies.tables import study_tables

    stdout().print(study_tables(_figures(study)))

"""``seralign verify``: check every file of a run against its digest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seralign.cli.console import stdout
from seralign.config.flags import Parser
from seralign.errors import StoreError
from seralign.runs import Checked, Run, check_run, read_manifest, run_size
from seralign.runs.layout import LOGPS, MANIFEST, RESULTS


def main(arguments: list[str]) -> int:
    """``RUN [--json]``; 0 if nothing has changed, 1 otherwise."""
    parser = Parser(
        "seralign verify",
        description="Read every file of a run and compare it with its recorded digest. Nothing is written. The exit "
        "code is 1 if a file is missing or damaged.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of the run, finished or not")
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    given = parser.parse_args(arguments)
    run = Run(Path(given.run))
    if not (run.root / MANIFEST).is_file():
        read_manifest(run.root)  # says what is missing

    from seralign.progress import bar

    with bar("verify", run_size(run), "B") as line:
        found = [*check_run(run, line.advance), *_cache(run), *_results(run)]
    if given.json:
        print(json.dumps([asdict(checked) for checked in found], indent=1))
    else:
        _print(found)
    return 1 if any(checked.problems for checked in found) else 0


def _cache(run: Run) -> list[Checked]:
    """The log-probability cache of the run, if it has one."""
    try:
        config: dict[str, Any] = read_manifest(run.root)["config"]
    except StoreError:
        config = {}
    from seralign.runs.cache import check_cache

    path = Path(config.get("scoring", {}).get("cache") or run.root / LOGPS)
    if not path.is_file():
        return []
    rows, problems = check_cache(path)
    name = str(path.relative_to(run.root)) if path.is_relative_to(run.root) else str(path)
    return [Checked(f"{name} ({rows} rows)", 1, path.stat().st_size, tuple(problems))]


def _results(run: Run) -> list[Checked]:
    """The stored results of the run, if it has any."""
    from seralign.runs.results import check_results

    path = run.root / RESULTS
    if not path.is_file():
        return []
    rows, problems = check_results(path)
    return [Checked(f"{RESULTS} ({rows} rows)", 1, path.stat().st_size, tuple(problems))]


def _print(found: list[Checked]) -> None:
    from seralign.tables import Table, terminal

    rows = tuple(
        (checked.name, f"{checked.files:,}", f"{checked.size:,}", "damaged" if checked.problems else "ok")
        for checked in found
    )
    console = stdout()
    console.print(terminal(Table("", ("part", "files", "bytes", ""), rows)))
    for checked in found:
        for problem in checked.problems:
            console.print(f"{checked.name}: {problem}", markup=False, soft_wrap=True)
    harmed = sum(bool(checked.problems) for checked in found)
    files, size = sum(checked.files for checked in found), sum(checked.size for checked in found)
    ending = "nothing has changed" if not harmed else f"{harmed} of {len(found)} parts are damaged"
    console.print(f"{files:,} files, {size:,} bytes: {ending}")

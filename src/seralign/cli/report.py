"""``seralign report``: write the report of one or several runs, as one page that works offline."""

from __future__ import annotations

from pathlib import Path

from seralign.cli.console import stdout, tell
from seralign.config.flags import Parser
from seralign.config.paths import expanded
from seralign.errors import ConfigError, StoreError
from seralign.runs import read_run
from seralign.runs.layout import REPORT

# The page of several runs; that of one run is in its folder.
SEVERAL = "seralign-report.html"


def main(arguments: list[str]) -> None:
    """``RUN [RUN ...] [--out FILE] [--open]``"""
    parser = Parser(
        "seralign report",
        description="Write the report of a run, or of several to compare them, as one HTML file; and print the mean "
        "scores of their policies by their distance from the reference, where both were measured.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the folder of a run, finished or not")
    parser.add_argument("--out", help=f"the file (default: RUN/report.html; for several runs {SEVERAL})")
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    given = parser.parse_args(arguments)
    runs = [read_run(folder) for folder in given.runs]

    from seralign.report.compare import cautions
    from seralign.report.contents import run_contents
    from seralign.report.frontier import frontier_table
    from seralign.report.page import write_report
    from seralign.tables import terminal

    default = runs[0].root / REPORT if len(runs) == 1 else Path(SEVERAL)
    path = (Path(expanded(given.out)) if given.out else default).absolute()
    if path.exists() and not path.is_file():
        raise ConfigError(f"--out {path}: this is a folder or a device; give the name of a file")
    contents = [run_contents(run) for run in runs]
    try:
        write_report(contents, path)
    except OSError as error:
        raise StoreError(f"{path}: the report cannot be written ({error.strerror or error}); see --out") from None
    if (found := frontier_table(contents)) is not None:
        stdout().print(terminal(found, names=2))
        for sentence in cautions(contents):
            tell(sentence)
    tell(f"report: {path}")
    if given.open:
        import webbrowser

        if not webbrowser.open(path.as_uri()):
            tell("no browser was found; open the file yourself")

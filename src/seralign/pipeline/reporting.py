"""The report of a run, written after every round and at the end. An error in it never stops the run."""

from __future__ import annotations

from seralign import distributed
from seralign.policy.release import free
from seralign.progress import say_once
from seralign.report.contents import run_contents
from seralign.runs import Run
from seralign.runs.layout import REPORT

# From so many pairs on, it is worth a second to free what the page took.
_MANY = 10_000


def report(run: Run) -> None:
    """Write the run's report to its folder."""
    if not distributed.is_main():
        return
    path, many = run.root / REPORT, False
    try:
        contents = run_contents(run)
        many = contents.pairs_total > _MANY
        from seralign.report.page import write_report  # imports the chart libraries

        write_report([contents], path)
        del contents
    except Exception as error:  # a failed report must not end a run of hours
        say_once(f"warning: no report was written ({type(error).__name__}: {error}); seralign report tries again")
    if many:
        free()

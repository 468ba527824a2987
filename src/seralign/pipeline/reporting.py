"""The report of a run at work: written after every round and at the end, and never a reason for the run to fail."""

from __future__ import annotations

from seralign import distributed
from seralign.progress import say_once
from seralign.report.contents import run_contents
from seralign.runs import Run
from seralign.runs.layout import REPORT


def report(run: Run) -> None:
    """Write the run's report beside its stages."""
    if not distributed.is_main():
        return
    path = run.root / REPORT
    try:
        contents = run_contents(run)
        from seralign.report.page import write_report  # loads what draws the charts

        write_report([contents], path)
    except Exception as error:  # hours of work are worth more than their chart
        say_once(f"warning: no report was written ({type(error).__name__}: {error}); seralign report tries again")

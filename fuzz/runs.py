"""Folders of finished runs with one file damaged, read as ``show`` and ``report`` do."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from hand_made import whole_run

from fuzz.target import Target
from fuzz.values import damaged
from seralign.report.contents import run_contents
from seralign.report.text import run_tables
from seralign.runs import read_run


@dataclass(frozen=True)
class RunInput:
    """Which file of the run is damaged, and by which seed."""

    place: float
    kind: str
    seed: int


def make(source: random.Random) -> RunInput:
    """Any file of the run: bytes changed, emptied, or another JSON value in its place."""
    kind = source.choice(["damaged", "damaged", "damaged", "", "null", "[]", "{}", "0", "[" * 3000])
    return RunInput(source.random(), kind, source.randrange(2**32))


def read(made: RunInput, folder: Path) -> None:
    """Damage a copy of the run, and read all of it."""
    whole, copy = folder / "whole", folder / "copy"
    if not whole.exists():
        whole_run(whole)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    file = files[int(made.place * len(files))]
    content = file.read_bytes()
    file.write_bytes(damaged(random.Random(made.seed), content) if made.kind == "damaged" else made.kind.encode())
    run = read_run(copy)
    run_tables(run_contents(run).figures)
    for record in run.stages():
        run.verify(record.name, record.inputs)


RUNS = Target("runs", 0.002, make, read)

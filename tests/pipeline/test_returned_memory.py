"""Memory that a stage has freed goes back to the system, of Arrow's tables too."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from seralign.pipeline import context
from seralign.policy.release import use_system_pool
from seralign.runs import open_run


@dataclass(frozen=True)
class Figures:
    """Of a stage that does nothing."""

    pairs: int


def said_by(code: str, pool: str | None, *arguments: str) -> str:
    """What a new process prints, with a choice of Arrow's pool in its environment."""
    environ = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    environ |= {"PYTHONPATH": os.pathsep.join(sys.path)} | ({"ARROW_DEFAULT_MEMORY_POOL": pool} if pool else {})
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def test_freed_memory_is_returned_after_each_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(context, "trim", lambda: events.append("trim"))

    def work(folder: Path) -> Figures:
        events.append(folder.name)
        return Figures(2)

    run = open_run(tmp_path / "run", {}, {})
    context.run_stage(run, "data", {}, work)
    assert events == ["data.partial", "trim"]
    context.run_stage(run, "data", {}, work)
    assert events == ["data.partial", "trim"], "a finished stage is read back"


def test_arrow_writes_files_with_the_c_library(tmp_path: Path) -> None:
    """The writer of Parquet takes Arrow's own pool, which only the environment chooses before Arrow is imported."""
    code = """
import sys, seralign.runs.files as files, pyarrow as pa
from pathlib import Path
from seralign.policy.release import trim
def held():
    trim()
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon")))
ids = pa.array([f"{n:040x}" for n in range(200_000)])
before = held()
files.write_table(Path(sys.argv[1]), {"id": ids})
print(held() - before)
"""
    assert int(said_by(code, None, str(tmp_path / "ids.parquet"))) < 3000, "kB"


@pytest.mark.skipif("mimalloc" not in pa.supported_memory_backends(), reason="Arrow was built without this pool")
@pytest.mark.parametrize(("chosen", "pool"), [("mimalloc", "mimalloc"), (None, "system")])
def test_a_run_keeps_the_pool_that_the_user_chose(chosen: str | None, pool: str) -> None:
    """Arrow is imported first: its own pool is mimalloc, until the run replaces it."""
    code = """
import pyarrow as pa, os, seralign
from seralign.pipeline import run
def started(): raise SystemExit
run.distributed.start = started
try:
    seralign.train(seralign.load_config(None, {"out": "x", "world": {}}))
except SystemExit:
    print(os.environ["ARROW_DEFAULT_MEMORY_POOL"], pa.default_memory_pool().backend_name)
"""
    assert said_by(code, chosen).split() == [pool, pool]


def test_arrow_allocates_with_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    before = pa.default_memory_pool()
    try:
        use_system_pool()
        assert pa.default_memory_pool().backend_name == "system"
    finally:
        pa.set_memory_pool(before)

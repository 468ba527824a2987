"""Memory that a stage has freed goes back to the system, of Arrow's tables too."""

from __future__ import annotations

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


def test_arrow_allocates_with_the_c_library() -> None:
    before = pa.default_memory_pool()
    try:
        use_system_pool()
        assert pa.default_memory_pool().backend_name == "system"
    finally:
        pa.set_memory_pool(before)

"""``seralign verify``: what is harmed is named, and the exit code says whether anything is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hand_made import whole_run

from seralign.cli.main import main
from seralign.runs.cache import LogpCache, made_keys, response_key


def test_a_run_as_it_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = whole_run(tmp_path / "run")
    cache = LogpCache(run.root / "cache" / "logps.sqlite")
    cache.put("policy", made_keys([response_key([1], [2])]), [-1.0])
    cache.close()
    assert main(["verify", str(run.root)]) == 0
    assert "nothing has changed" in capsys.readouterr().out
    assert main(["verify", str(run.root), "--json"]) == 0
    found = {part["name"]: part for part in json.loads(capsys.readouterr().out)}
    assert found["data"]["files"] == 4
    assert found["cache/logps.sqlite (1 rows)"]["problems"] == []
    assert all(part["problems"] == [] for part in found.values())


def test_harmed_files_are_named_and_nothing_is_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = whole_run(tmp_path / "run")
    pairs = run.root / "data" / "pairs.arrow"
    harmed = bytearray(pairs.read_bytes())
    harmed[len(harmed) // 2] ^= 1
    pairs.write_bytes(harmed)
    record = run.root / "round-2" / "select" / "stage.json"
    record.write_text(record.read_text().replace('"kept": 2', '"kept": 3'))
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    assert main(["verify", str(run.root)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "data: pairs.arrow: its contents have changed since it was written" in out
    assert f"round-2/select: {record}: the record cannot be read" in out
    assert "2 of " in out
    assert {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()} == before


def test_a_harmed_configuration_is_a_finding_and_no_run_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = whole_run(tmp_path / "run")
    (run.root / "run.json").write_text("null")
    assert main(["verify", str(run.root)]) == 1
    assert "run.json" in capsys.readouterr().out
    assert main(["verify", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: no run here (run.json is missing)\n"

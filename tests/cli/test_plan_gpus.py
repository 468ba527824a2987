"""``seralign plan --gpu`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from seralign.cli.main import main
from seralign.cli.projection import gigabytes, hours


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A run of an 8B model on data that are not here."""
    path = tmp_path / "run.yaml"
    keys = {"out": str(tmp_path / "run"), "policy": {"model": "llama-3.1-8b"}}
    path.write_text(yaml.safe_dump(keys | {"data": {"pairs": {"path": "someone/pairs"}}}), encoding="utf-8")
    return path


SIZES = ["--pairs", "10000", "--prompt_tokens", "150", "--response_tokens", "300"]


def test_a_large_model_is_planned_from_its_name(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", str(file), "--gpus", "64", "--gpu", "h100", "--shard", "fsdp", "--price", "2.5", *SIZES]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for word in (
        "64 x h100",
        "8,030,261,248 weights",
        "reference scoring",
        "round-3/sample",
        "cost",
        "it fits",
        "have not been measured",
    ):
        assert word in out
    assert main([*arguments, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"] is True
    assert plan["seconds"] == pytest.approx(sum(part["seconds"] for part in plan["parts"]))
    assert sum(part["cost"] for part in plan["parts"]) == pytest.approx(plan["seconds"] * 64 * 2.5 / 3600)
    assert plan["data"]["pairs"] == 9500
    assert list(tmp_path.iterdir()) == [file]


def test_what_does_not_fit_ends_with_1_and_says_what_would(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", str(file), "--gpus", "8", "--gpu", "a100-80", *SIZES]
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "will not fit: training needs" in out
    assert "it fits with --shard zero2" in out
    assert main([*arguments, "--shard", "zero2"]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpu", "h101"], ["--gpu", "h100", "mi300x"]),
        (["--gpus", "0"], ["--gpus", "at least 1"]),
        (["--gpu", "h100", "--shard", "fsdp"], ["--shard fsdp", "--gpus"]),
        (["--gpu", "h100", "--mfu", "1.5"], ["--mfu", "at most 1"]),
        (["--gpu", "h100", "--price", "-1"], ["--price", "at least 0"]),
        (["--shard", "fsdp"], ["--shard", "--gpu"]),
        (["--gpu", "h100"], ["data.pairs", "someone/pairs", "--pairs", "--prompt_tokens"]),
        (
            ["--gpu", "h100", *SIZES, "--policy.model", "nobody/model"],
            ["policy.model", "nobody/model", "--policy.model ARCHITECTURE"],
        ),
    ],
)
def test_mistakes_are_one_line(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: list[str]
) -> None:
    assert main(["plan", str(file), *arguments]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    for word in says:
        assert word in line


def test_figures_have_units() -> None:
    assert [hours(seconds) for seconds in (0.4, 59.4, 61, 3599, 5400)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h 00 min",
        "1 h 30 min",
    ]
    assert gigabytes(72e9) == "72.0"

"""``seralign plan`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import seralign.pipeline.plan.plan as planning
from seralign.cli.main import main
from seralign.cli.plan import _bytes, _time, _told
from seralign.config import WorldConfig
from seralign.laboratory.world import make_world
from seralign.pipeline.plan.estimate import Misfit


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and its tokenizer, and pairs of its language."""
    folder = tmp_path_factory.mktemp("world")
    make_world(WorldConfig(pairs=24, demonstrations=24, prompts=8, heldout=8), folder)
    return folder


@pytest.fixture
def file(world: Path, tmp_path: Path) -> Path:
    """A run of one short round on a file of pairs."""
    config = {
        "out": str(tmp_path / "run"),
        "rounds": 1,
        "policy": {"model": str(world / "model")},
        "data": {"pairs": {"path": str(world / "pairs.jsonl")}, "max_length": 48, "heldout_fraction": 0.2},
        "training": {"max_steps": 2, "batch_size": 8, "save_steps": 1},
        "evaluation": {"prompts": 4, "max_new_tokens": 16},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_a_plan_is_a_table_and_leaves_no_run(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(file)]) == 0
    out = capsys.readouterr().out
    for word in (
        "round-1/train",
        "2 steps",
        "round-1/evaluate",
        "4 answers",
        "packed",
        "it fits",
        "evaluation.max_new_tokens",
    ):
        assert word in out
    assert "sft" not in out
    assert list(tmp_path.iterdir()) == [file]


def test_json_has_the_same_figures_by_name(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(file), "--json", "--training.shard", "fsdp", "--training.precision", "float32"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert set(plan) == {"device", "memory", "stages", "shares", "packing", "disk", "misfits", "notes", "seconds",
                         "at_most", "peak_bytes", "fits"}  # fmt: skip
    assert [stage["name"] for stage in plan["stages"]] == [
        "data", "initial/evaluate", "round-1/train", "round-1/evaluate", "round-1/tokens"
    ]  # fmt: skip
    assert set(plan["stages"][0]) == {"name", "count", "unit", "tokens", "seconds", "at_most", "peak_bytes", "note",
                                      "done", "extrapolated", "error"}  # fmt: skip
    assert plan["seconds"] == pytest.approx(sum(stage["seconds"] for stage in plan["stages"]))
    (packing,) = plan["packing"]
    assert (packing["stage"], packing["packed"], packing["steps"], packing["padding"]) == ("round-1/train", True, 2, 0)
    assert plan["fits"] is True
    assert plan["misfits"] == []
    (note,) = (note for note in plan["notes"] if "how long sampled responses" in note)
    mean = int(note.partition("chosen responses (")[2].split()[0])
    assert f"{min(mean, 16)} tokens in evaluation (evaluation.max_new_tokens: 16)" in note
    # Divided, a training saves parts of weights, gradients and both moments of AdamW: 16 bytes a weight.
    peaks = {stage["name"]: stage["peak_bytes"] for stage in plan["stages"] if stage["peak_bytes"]}
    found = {(share["stage"], share["processes"]): share["peak_bytes"] for share in plan["shares"]}
    assert found.keys() == {(stage, count) for stage in peaks for count in (2, 4, 8)}
    saved = found["round-1/train", 2] - found["round-1/train", 8]
    assert saved == pytest.approx(16 * plan["disk"]["policy"] / 4 * (1 / 2 - 1 / 8), rel=0.05)
    assert sum(note.startswith("training.shard: fsdp: times and the table's memory") for note in plan["notes"]) == 1


def test_what_does_not_fit_ends_with_1_and_a_setting(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["plan", str(file), "--json"]
    assert main(arguments) == 0
    weights = json.loads(capsys.readouterr().out)["disk"]["policy"]
    # Enough for the weights, not for their gradients and the optimizer's state.
    monkeypatch.setattr(planning, "memory_at_hand", lambda: 2 * weights)
    assert main(arguments) == 1
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"] is False
    (misfit,) = plan["misfits"]
    assert (misfit["what"], misfit["settings"]) == ("policy.model", {"policy.lora": {}})
    assert plan["seconds"] is None
    assert main(["plan", str(file)]) == 1
    assert "it fits with policy.lora: {}" in capsys.readouterr().out


ADVICE = (
    ". If a run has yet to make it, plan with the name of its architecture on a GPU: --gpu NAME --policy.model "
    "ARCHITECTURE, such as --gpu h100 --policy.model tinyllama-1.1b"
)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data.pairs.path", "nowhere.jsonl"], ["nowhere.jsonl", "data.pairs"]),
        (["--policy.model", "./nowhere"], ["nowhere"]),
        (["--reference.model", "./nowhere"], ["nowhere"]),
        (["--objective.nam", "dpo"], ["nam", "unknown"]),
        (["--data.max_length", "100"], ["data.max_length", "64"]),
        (["--stop.metric", "win_rate", "--rounds", "2", "--bootstrap", "null"], ["stop.metric", "evaluation.scorer"]),
        (["--evaluation.scorer", "no_such_module:score"], ["evaluation.scorer", "no_such_module"]),
        (["--training.extra", "{bf16: true}"], ["training.extra.bf16"]),
    ],
)
def test_mistakes_are_told_as_training_tells_them(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: list[str]
) -> None:
    errors = []
    for command in ("plan", "train"):
        assert main([command, str(file), *arguments]) == 2
        text = capsys.readouterr().err
        assert "Traceback" not in text
        errors += [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert errors[0].removesuffix(ADVICE) == errors[1]
    assert errors[0].endswith(ADVICE) == (arguments == ["--policy.model", "./nowhere"])
    for word in says:
        assert word in errors[0]


def test_an_interrupted_plan_says_that_nothing_was_written(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(planning, "carry_out_opening", interrupt)
    assert main(["plan", str(file)]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]


def test_a_launcher_is_refused(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["plan", str(file)]) == 2
    assert "without a launcher" in capsys.readouterr().err


def test_figures_are_told_in_units() -> None:
    assert [_time(value) for value in (None, 0.04, 59.94, 61.6, 3600.0)] == [
        "?",
        "0.0 s",
        "59.9 s",
        "0:01:02",
        "1:00:00",
    ]
    assert [_bytes(value) for value in (None, 999, 1500, 2_345_000_000)] == ["?", "999 B", "1.5 kB", "2.35 GB"]
    misfit = Misfit("training.tokens_per_pack", 2_000_000_000, {"training.tokens_per_pack": 512})
    assert _told(misfit).endswith("needs 2 GB; it fits with training.tokens_per_pack: 512")
    assert "smaller model" in _told(Misfit("scoring.tokens_per_pack", 10))
    assert "training.save_steps" in _told(Misfit("out", 10))

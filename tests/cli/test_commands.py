"""The command as a user meets it: what it prints, how it ends, and what it says to mistakes."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hand_made import whole_run

from seralign.cli.main import COMMANDS, main
from seralign.config import WorldConfig
from seralign.errors import DataError
from seralign.laboratory.world import make_world

PROMPT, GOOD, BAD = "e1 e2 e3 e4 <sep>", "e1 w1 e2 w2 e3 w3 e4 w4", "e1 w5 f1 e2 w2"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and its tokenizer, and pairs of its language."""
    folder = tmp_path_factory.mktemp("world")
    make_world(WorldConfig(pairs=24, demonstrations=24, prompts=8, heldout=8), folder)
    return folder


@pytest.fixture
def config(world: Path, tmp_path: Path) -> dict[str, Any]:
    """A run of one short round on a file of pairs, as nested values."""
    shutil.copy(world / "pairs.jsonl", tmp_path / "pairs.jsonl")
    training = {"max_steps": 2, "batch_size": 8, "save_steps": 1, "log_steps": 1, "learning_rate": 1e-3}
    return {
        "out": str(tmp_path / "run"),
        "rounds": 1,
        "policy": {"model": str(world / "model")},
        "data": {"pairs": {"path": str(tmp_path / "pairs.jsonl")}, "max_length": 48, "heldout_fraction": 0.2},
        "training": training,
        "evaluation": {"prompts": 4, "max_new_tokens": 16},
    }


def run(config: dict[str, Any], tmp_path: Path, *arguments: str) -> int:
    """``seralign train`` on a configuration file."""
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return main(["train", str(file), *arguments])


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that tells the mistake; nothing like a traceback may be there."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, text
    return lines[0]


def test_train_goes_on_and_show_tells(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path) == 0
    first = capsys.readouterr()
    assert "[round-1/train]" in first.err
    assert "result: round 1" in first.out
    assert run(config, tmp_path) == 0
    again = capsys.readouterr()
    assert "[" not in again.err.replace("[/", ""), "a finished run does nothing again"
    assert f"{config['out']} has finished; its report is written again" in again.err
    assert main(["show", config["out"], "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["finished"] is True
    assert [policy["name"] for policy in figures["policies"]] == ["initial", "round 1"]
    assert figures["policies"][0]["kl"]["mean"] == 0.0
    assert figures["rounds"][0]["train"]["heldout_first"]["eval_margins"] == 0.0
    assert len(figures["reference"]["digest"]) == 64
    assert main(["show", config["out"]]) == 0
    assert figures["reference"]["digest"][:16] in capsys.readouterr().out


def test_inspect_shows_tokens_and_leaves_no_run(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main(["inspect", str(file), "--examples", "1"]) == 0
    out = capsys.readouterr().out
    assert "read 24, kept 24" in out
    assert "‖" in out
    assert "<bos>" in out
    assert "<eos>" in out
    assert "ends with an end token" in out
    assert not Path(config["out"]).exists()


def test_inspect_names_what_the_examples_are(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, file = Path(config["data"]["pairs"]["path"]), tmp_path / "run.yaml"
    row = {"prompt": PROMPT, "responses": [GOOD, BAD]}
    cases = [
        ([GOOD_ROW], "dpo", "1 pair to train on, 0 held out"),
        (
            [row | {"ranks": [1, 2]}, row | {"responses": [BAD, GOOD], "ranks": [1, 2]}],
            "plackett_luce",
            "2 examples to train on, ",
        ),
    ]
    for rows, objective, says in cases:
        path.write_text(_rows(*rows), encoding="utf-8")
        data = config["data"] | {"heldout_fraction": 0.0}
        text = yaml.safe_dump(config | {"objective": {"name": objective}, "rounds": 1, "data": data})
        file.write_text(text, encoding="utf-8")
        assert main(["inspect", str(file)]) == 0
        assert any(line.startswith(says) for line in capsys.readouterr().out.splitlines())


def _rows(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


GOOD_ROW = {"prompt": PROMPT, "chosen": GOOD, "rejected": BAD}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", ["pairs.jsonl", "empty"]),
        (_rows(GOOD_ROW, GOOD_ROW) + '{"prompt": "e1\n', ["pairs.jsonl", "row 3"]),
        (_rows({"prompt": PROMPT, "chosen": 3, "rejected": 4}), ["pairs.jsonl", "row 1", "chosen"]),
        (_rows(GOOD_ROW | {"p": 1.0}, GOOD_ROW | {"p": 1.5}), ["row 2", "p ", "1.5"]),
        (_rows({"prompt": PROMPT, "answer": GOOD}), ["pairs.jsonl", "chosen"]),
        (_rows({"prompt": PROMPT, "chosen": GOOD, "rejected": GOOD}), ["1 identical responses (first ", " row 1)"]),
        (_rows({"prompt": PROMPT, "chosen": "zebra", "rejected": GOOD}), ["pairs.jsonl row 1", "policy.tokenizer"]),
        (_rows({"chosen": [{"role": "user", "content": "e1"}, {"role": "assistant", "content": "w1"}],
                "rejected": [{"role": "user", "content": "e1"}, {"role": "assistant", "content": "w2"}]}),
         ["chat template", "policy.chat_template"]),
    ],
    ids=["empty", "broken line", "types", "p", "columns", "identical", "vocabulary", "template"],
)  # fmt: skip
def test_bad_data_is_one_clear_error(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: list[str]
) -> None:
    (tmp_path / "pairs.jsonl").write_text(content, encoding="utf-8")
    assert run(config, tmp_path) == 2
    error = the_error(capsys)
    for word in says:
        assert word in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data.pairs.path", "nowhere.jsonl"], ["nowhere.jsonl", "data.pairs"]),
        (["--policy.model", "./nowhere"], ["nowhere"]),
        (["--objective.name", "dpoo"], ["objective.name", "dpo"]),
        (["--objective.name", "slic", "--objective.gamma", "1"], ["objective.gamma"]),
        (["--objective.nam", "dpo"], ["nam", "unknown"]),
        (["--selection.fraction", "1.5"], ["selection.fraction", "(0, 1]"]),
        (["--data.max_length", "100"], ["data.max_length", "64"]),
        (["--stop.metric", "win_rate", "--rounds", "2", "--bootstrap", "null"], ["stop.metric", "evaluation.scorer"]),
        (["--evaluation.scorer", "no_such_module:score"], ["evaluation.scorer", "no_such_module"]),
        (["--training.extra", "{bf16: true}"], ["training.extra.bf16"]),
        (["--rounds", "2"], ["bootstrap.max_new_tokens", "data.max_length, 48"]),
    ],
)
def test_bad_options_are_one_clear_error(
    config: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: list[str],
) -> None:
    assert run(config, tmp_path, *arguments) == 2
    error = the_error(capsys)
    for word in says:
        assert word in error


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["show", "nowhere"], ["train", "nowhere.yaml"]])
def test_wrong_commands_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def _folder_of_something_else(out: Path, config: dict[str, Any]) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")


def _another_configuration(out: Path, config: dict[str, Any]) -> None:
    config["objective"] = {"name": "ipo"}


def _other_data(out: Path, config: dict[str, Any]) -> None:
    path = Path(config["data"]["pairs"]["path"])
    path.write_text(path.read_text().replace("w1", "w2"))


def _other_weights(out: Path, config: dict[str, Any]) -> None:
    from safetensors.torch import load_file, save_file

    model = out.parent / "model"
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def _harmed_output(out: Path, config: dict[str, Any]) -> None:
    path = out / "round-1" / "train" / "policy" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def _corrupt_cache(out: Path, config: dict[str, Any]) -> None:
    for extra in (out / "cache").iterdir():
        extra.unlink()
    (out / "cache" / "logps.sqlite").write_bytes(b"no cache at all " * 100)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_another_configuration, ["objective.name", "'dpo'", "'ipo'"]),
        (_other_data, ["data.pairs", "changed"]),
        (_other_weights, ["policy.model", "changed"]),
        (_harmed_output, ["model.safetensors", "changed"]),
        (_corrupt_cache, ["logps.sqlite", "move the file away"]),
    ],
)
def test_resume_refuses_what_changed(
    config: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Path, dict[str, Any]], None],
    says: list[str],
) -> None:
    shutil.copytree(config["policy"]["model"], tmp_path / "model")
    config["policy"]["model"] = str(tmp_path / "model")
    assert run(config, tmp_path) == 0
    capsys.readouterr()
    kept = {path: path.read_bytes() for path in Path(config["out"]).rglob("*.parquet")}
    harm(Path(config["out"]), config)
    assert run(config, tmp_path) == 2
    error = the_error(capsys)
    for word in says:
        assert word in error
    assert kept == {path: path.read_bytes() for path in Path(config["out"]).rglob("*.parquet")}


def test_a_folder_of_something_else_is_left_alone(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _folder_of_something_else(Path(config["out"]), config)
    assert run(config, tmp_path) == 2
    assert "is not a run" in the_error(capsys)
    assert (Path(config["out"]) / "thesis.tex").read_text() == "years of work"


def test_a_full_disk_loses_nothing(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import seralign.pipeline.evaluating as evaluating

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(evaluating, "write_table", full)
        assert run(config, tmp_path) == 2
    assert "disk is full" in the_error(capsys)
    assert (Path(config["out"]) / "data" / "stage.json").is_file()
    assert run(config, tmp_path) == 0


def test_packed_files_are_read(config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(config["data"]["pairs"]["path"])
    packed = path.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    config["data"]["pairs"]["path"] = str(packed)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main(["inspect", str(file)]) == 0
    assert "read 24, kept 24" in capsys.readouterr().out


def seralign(*arguments: str, **redirect: Any) -> subprocess.CompletedProcess[str]:
    """The command in a separate process, with the streams that a shell would give it."""
    command = [sys.executable, "-m", "seralign.cli.main", *arguments]
    return subprocess.run(command, text=True, check=False, stderr=subprocess.PIPE, **redirect)


@pytest.fixture(scope="session")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(whole_run(tmp_path_factory.mktemp("shown") / "run").root)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["show"], ["show", "--json"]])
def test_output_that_cannot_be_written_is_one_line(a_run: str, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = seralign(*arguments, a_run, stdout=full)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert "No space left on device" in done.stderr


def test_a_report_takes_the_place_of_files_only(a_run: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path):
        assert main(["report", a_run, "--out", str(place)]) == 2
        assert the_error(capsys) == f"error: --out {place}: this is a folder or a device; give the name of a file"
    assert pipe.is_fifo()


def test_a_closed_output_is_told_before_any_work(a_run: str) -> None:
    done = seralign("show", a_run, preexec_fn=lambda: os.close(1))
    assert done.returncode == 1
    assert done.stderr == "error: standard output is closed; redirect it to /dev/null to hide the output\n"


def test_a_reader_that_goes_away_is_no_mistake(a_run: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = seralign("show", a_run, "--json", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_characters_that_the_output_cannot_have_are_escapes(a_run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = seralign("show", a_run, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert "\\u2013" in done.stdout


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (PermissionError(13, "Permission denied", "a\nb"), 1, "error: a\\nb: Permission denied"),
        (OSError("odd"), 1, "error: odd"),
        (MemoryError(), 1, "error: out of memory; finished work is kept"),
        (DataError("row 1: \x1b"), 2, "error: row 1: \\x1b"),
        (KeyboardInterrupt(), 130, "interrupted; give the same command again"),
    ],
)
def test_what_gives_out_is_one_line(
    raised: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str]) -> None:
        raise raised

    monkeypatch.setitem(COMMANDS, "show", fail)
    assert main(["show"]) == code
    error = capsys.readouterr().err
    assert error.startswith(told)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show"], "the following arguments are required: RUN; seralign show --help"),
        (["show", "a", "--no\x1b"], "unrecognized arguments: --no\\x1b"),
        (["lab", "compare"], "the following arguments are required: STUDY"),
        (["merge"], "the following arguments are required"),
        (["push"], "the following arguments are required"),
        (["report", "x", "--jso"], "unrecognized arguments: --jso"),
        (["inspect", "--examples", "x"], "argument --examples: invalid int value: 'x'"),
        (["train", "--training.lr", "1"], "training.lr: unknown key; did you mean training.learning_rate?"),
    ],
)
def test_arguments_that_are_wrong_are_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert says in the_error(capsys)


def test_a_scorer_that_fails_is_one_line(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier stages are kept: the same command resumes once the scorer works."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exiting_scorer.py").write_text("import sys\n\ndef score(prompts, responses):\n    sys.exit(3)\n")
    assert run(config, tmp_path, "--evaluation.scorer", "exiting_scorer:score") == 2
    error = the_error(capsys)
    assert error == ("error: evaluation.scorer: exiting_scorer:score failed: SystemExit: 3 (exiting_scorer.py line 4)")
    assert (Path(config["out"]) / "data" / "stage.json").is_file()
    (tmp_path / "exiting_scorer.py").write_text("import sys\n\ndef score(prompts, responses):\n    sys.exit(4)\n")
    assert run(config, tmp_path, "--evaluation.scorer", "exiting_scorer:score") == 2
    assert f"resuming {config['out']} after policies" in capsys.readouterr().err

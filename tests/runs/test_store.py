"""A run's folder: stages that are whole or not there, inputs and files that are checked, one process at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file

import seralign.runs.stages
from seralign.errors import StoreError
from seralign.runs import FORMAT, Run, StageRecord, check_run, open_run, read_manifest, read_run, run_size
from seralign.runs.files import disk_errors, file_digest, locked, read_table, write_atomic, write_json, write_table
from seralign.runs.sealed import read_sealed, write_sealed, write_sealed_table

CONFIG = {"seed": 0, "training": {"learning_rate": 1e-6, "report_to": []}, "out": "run"}
INPUTS = {"pairs": "a1", "policy": "b2"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path / "run", CONFIG, {"seralign": "0"})


def finish(run: Run, stage: str, files: dict[str, str] | None = None, inputs: dict[str, str] = INPUTS) -> StageRecord:
    folder = run.begin(stage, {})
    for name, text in (files or {"a.txt": "one", "policy/b.txt": "two"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return run.commit(stage, inputs, {"loss": 0.5}, 1.23456)


# --- stages


def test_a_stage_appears_whole_and_at_once(run: Run) -> None:
    folder = run.begin("round-2/score", {})
    assert folder == run.root / "round-2" / "score.partial" == run.partial("round-2/score")
    (folder / "a.txt").write_text("one")
    (folder / "scratch" / "part.txt").write_text("temporary")
    (folder / "torn.parquet.tmp").write_text("torn")
    assert not run.exists("round-2/score")
    assert run.stages() == []
    record = run.commit("round-2/score", INPUTS, {"loss": 0.5}, 1.23456)
    assert run.exists("round-2/score")
    assert not folder.exists()
    assert sorted(path.name for path in run.path("round-2/score").iterdir()) == ["a.txt", "stage.json"]
    assert record.inputs == INPUTS
    assert record.figures == {"loss": 0.5}
    assert record.seconds == 1.235
    assert record.outputs == {"a.txt": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"}
    assert run.record("round-2/score") == record == run.verify("round-2/score", dict(INPUTS))
    assert read_run(run.root).record("round-2/score") == record


def test_what_a_killed_stage_left_is_still_there_when_it_begins_again(run: Run) -> None:
    (run.begin("sample", {}) / "part").write_text("done")
    assert (run.begin("sample", {}) / "part").read_text() == "done"


def test_a_stage_killed_between_record_and_rename_is_put_in_place(run: Run) -> None:
    record = finish(run, "first", {"a.txt": "one"})
    run.path("first").rename(run.partial("first"))
    (run.partial("first") / "scratch").mkdir()
    assert not run.exists("first")
    assert run.stages() == []
    run.recover("first")
    assert run.verify("first", dict(INPUTS)) == record
    assert not run.path("first", "scratch").exists()


def test_a_stage_without_a_record_is_not_put_in_place(run: Run) -> None:
    (run.begin("first", INPUTS) / "a.txt").write_text("one")
    run.recover("first")
    assert not run.exists("first")
    assert (run.begin("first", INPUTS) / "a.txt").read_text() == "one"


def test_what_was_begun_on_other_inputs_is_not_gone_on_with(run: Run) -> None:
    """Somebody deleted a finished stage, so that it and what follows is made again from something else."""
    (run.begin("first", INPUTS) / "part-0.parquet").write_text("of another policy")
    assert list(run.begin("first", INPUTS | {"policy": "other"}).iterdir()) == [run.partial("first") / "scratch"]


def test_the_digest_of_a_stage_is_that_of_its_files(run: Run) -> None:
    first = finish(run, "first").digest
    assert finish(run, "same", inputs={"other": "c3"}).digest == first
    assert finish(run, "bytes", {"a.txt": "one", "policy/b.txt": "twp"}).digest != first
    assert finish(run, "names", {"a.txt": "one", "policy/c.txt": "two"}).digest != first


def test_stages_are_listed_in_the_order_they_finished_and_unfinished_ones_are_not(run: Run) -> None:
    for name in ("sft", "round-2/score", "data"):
        finish(run, name)
    partial = run.begin("round-2/train", {})
    (partial / "stage.json").write_text("{ torn")
    nested = run.path("sft", "policy")
    (nested / "stage.json").write_text("a file of the model's that has the same name")
    assert [record.name for record in run.stages()] == ["sft", "round-2/score", "data"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_permissions_that_the_umask_gives(umask: int, mode: int, tmp_path: Path) -> None:
    """Also those of libraries that make theirs for the owner alone."""
    before = os.umask(umask)
    try:
        run = open_run(tmp_path / "run", CONFIG, {})
        folder = run.begin("first", INPUTS)
        (folder / "policy").mkdir()
        save_file({"weight": np.zeros(2, np.float32)}, folder / "policy" / "model.safetensors")
        write_table(folder / "a.parquet", {"x": [1]})
        run.commit("first", INPUTS, {}, 1.0)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.root.rglob("*") if path.is_file()}
    assert modes == dict.fromkeys(["run.json", "stage.json", "model.safetensors", "a.parquet"], mode)


def test_listing_stages_looks_into_no_stage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files a policy has, or a stage at work."""
    finish(run, "sft")
    finish(run, "round-2/score")
    (run.begin("round-2/train", {}) / "scratch" / "checkpoint-1").mkdir()
    visited: list[Path] = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: visited.append(folder) or iterdir(folder))
    assert [record.name for record in run.stages()] == ["sft", "round-2/score"]
    assert visited == [run.root, run.root / "round-2"]


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"pairs": "a1", "policy": "XX"}, "policy"),
        ({"pairs": "a1"}, "policy"),
        ({"pairs": "a1", "policy": "b2", "reference": "c3"}, "reference"),
        ({"pairs": "X", "policy": "Y"}, "pairs, policy"),
    ],
)
def test_changed_inputs_are_refused_and_named(inputs: dict[str, str], named: str, run: Run) -> None:
    finish(run, "first")
    with pytest.raises(StoreError, match=rf"first was made from other inputs: {named} changed since.*--out"):
        run.verify("first", inputs)


def test_a_missing_or_changed_file_is_named(run: Run) -> None:
    finish(run, "first")
    file = run.path("first", "policy", "b.txt")
    file.write_text("twp")
    os.utime(file, ns=(0, 0))
    folder = run.root / "first"
    with pytest.raises(StoreError, match=rf"^{file}: its contents have changed.*Delete the folder {folder} and"):
        run.verify("first", INPUTS)
    file.unlink()
    with pytest.raises(StoreError, match=f"^{file}: the file is missing"):
        run.verify("first", INPUTS)


def test_a_copied_or_touched_file_is_fine(run: Run) -> None:
    record = finish(run, "first")
    os.utime(run.path("first", "a.txt"), ns=(0, 0))
    assert run.verify("first", INPUTS) == record


def test_what_is_read_of_a_stage_is_checked_whatever_its_size_and_time_say(run: Run) -> None:
    """Bit rot leaves both as they were."""
    finish(run, "first")
    file = run.root / "first" / "policy" / "b.txt"
    before = file.stat()
    file.write_text("twp")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = read_run(run.root)
    again.verify("first", INPUTS)
    assert again.path("first", "a.txt").read_text() == "one"
    for parts in (("policy", "b.txt"), ("policy",), ()):
        with pytest.raises(StoreError, match=f"^{file}: its contents have changed since it was"):
            again.path("first", *parts)
    file.write_text("two")
    assert again.path("first", "policy") == file.parent


def test_a_file_is_read_once_until_it_is_another(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(run, "first")
    again, digested = read_run(run.root), []
    digest = seralign.runs.stages.file_digest
    monkeypatch.setattr(seralign.runs.stages, "file_digest", lambda path: digested.append(path.name) or digest(path))
    for _ in range(3):
        again.path("first", "a.txt")
    assert digested == ["a.txt"]
    os.utime(run.root / "first" / "a.txt", ns=(1, 1))
    again.path("first", "a.txt")
    again.path("first")
    assert digested == ["a.txt", "a.txt", "b.txt"]


def test_a_record_covers_its_figures_and_its_place(run: Run) -> None:
    """An edited figure would change what later stages do with it."""
    finish(run, "first")
    path = run.root / "first" / "stage.json"
    whole = path.read_text()
    path.write_text(whole.replace('"loss": 0.5', '"loss": 0.25'))
    with pytest.raises(StoreError, match=f"^{path}: the record cannot be read .its content does not match its digest"):
        run.record("first")
    path.write_text(whole)
    (run.root / "first").rename(run.root / "second")
    with pytest.raises(StoreError, match=r"second/stage\.json: the record of another stage, first"):
        run.record("second")


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"pairs": "a1", "sha256": "0"}'])
def test_a_stage_that_nobody_knows_the_beginning_of_is_named_and_kept(text: str, run: Run) -> None:
    """Its checkpoints may be hours of work."""
    (run.begin("first", INPUTS) / "part").write_text("hours of work")
    begun = run.partial("first") / "scratch" / "inputs.json"
    begun.write_text(text)
    with pytest.raises(StoreError, match=f"^{begun}: cannot be read .*Delete the folder {run.partial('first')};"):
        run.begin("first", INPUTS)
    assert (run.partial("first") / "part").read_text() == "hours of work"


def test_an_edited_configuration_is_named(run: Run) -> None:
    path = run.root / "run.json"
    path.write_text(path.read_text().replace("1e-06", "1e-05"))
    for read in (lambda: read_run(run.root), lambda: open_run(run.root, CONFIG, {})):
        with pytest.raises(StoreError, match=f"^{path}: cannot be read: its content does not match its digest"):
            read()


def test_a_folder_in_the_place_of_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(StoreError, match=f"^{tmp_path / 'lock'} is a folder, but must be"), locked(tmp_path):
        pass


def test_two_finished_folders_of_a_stage_are_named(run: Run) -> None:
    finish(run, "first")
    shutil.copytree(run.root / "first", run.partial("first"))
    with pytest.raises(StoreError, match=r"first and .*first\.partial are both finished"):
        run.recover("first")


def test_checking_a_run_reads_every_file_and_names_what_is_harmed(run: Run) -> None:
    finish(run, "data")
    finish(run, "sft")
    finish(run, "round-1/train")
    folder = run.begin("round-2/train", INPUTS)
    write_sealed_table(folder / "scratch" / "part-0.sealed", {"x": [1]})
    checkpoint = folder / "scratch" / "checkpoint-4"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_text("state")
    write_sealed(checkpoint / "complete.json", {"optimizer.pt": file_digest(checkpoint / "optimizer.pt")})
    sizes: list[int] = []
    found = list(check_run(run, sizes.append))
    names = ["run.json", "data", "round-1/train", "sft", "round-2/train.partial"]
    assert [checked.name for checked in found] == names
    assert [checked.files for checked in found] == [1, 3, 3, 3, 4]
    assert not any(checked.problems for checked in found)
    assert found[1].size == sum(path.stat().st_size for path in (run.root / "data").rglob("*") if path.is_file())
    assert sum(sizes) <= run_size(run)

    (run.root / "data" / "a.txt").write_text("onf")
    (run.root / "round-1" / "train" / "policy" / "b.txt").unlink()
    (run.root / "round-1" / "train" / "policy" / "c.txt").write_text("")
    (run.root / "sft" / "stage.json").write_text("{}")
    (run.root / "run.json").write_text("{}")
    (checkpoint / "optimizer.pt").write_text("statf")
    (folder / "scratch" / "part-0.sealed").write_text("")
    problems = {checked.name: checked.problems for checked in check_run(run)}
    assert problems["data"] == ("a.txt: its contents have changed since it was written",)
    assert problems["round-1/train"] == (
        "policy/b.txt: the file is missing",
        "policy/c.txt: not a file that the stage wrote",
    )
    assert problems["round-2/train.partial"] == (
        "scratch/checkpoint-4/optimizer.pt: its contents have changed since it was written",
        "scratch/part-0.sealed: its contents have changed since it was written",
    )
    for name in ("run.json", "sft"):
        (problem,) = problems[name]
        assert "no JSON object with a digest" in problem


HARMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "empty": lambda record: "",
    "torn": lambda record: json.dumps(record)[:40],
    "binary": lambda record: "\x00\x01",
    "list": lambda record: "[]",
    "missing key": lambda record: json.dumps({key: value for key, value in record.items() if key != "outputs"}),
    "unknown key": lambda record: json.dumps(record | {"more": 1}),
    "null outputs": lambda record: json.dumps(record | {"outputs": None}),
    "list of figures": lambda record: json.dumps(record | {"figures": []}),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_corrupt_record_is_named_wherever_it_is_read(harm: str, run: Run) -> None:
    finish(run, "first")
    path = run.path("first", "stage.json")
    path.write_text(HARMS[harm](json.loads(path.read_text())))
    for read in (lambda: run.record("first"), lambda: run.verify("first", INPUTS), run.stages):
        with pytest.raises(StoreError, match=f"^{path}: .*Delete the folder") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_record_that_is_not_text_is_named(run: Run) -> None:
    finish(run, "first")
    run.path("first", "stage.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreError, match=r"stage\.json: the record cannot be read"):
        run.record("first")


def test_a_stage_without_its_record_is_not_written_over(run: Run) -> None:
    finish(run, "first")
    run.path("first", "stage.json").unlink()
    with pytest.raises(StoreError, match=r"first/stage\.json: the record is missing.*Delete the folder"):
        run.begin("first", {})
    assert (run.root / "first" / "a.txt").read_text() == "one"


def test_an_unfinished_stage_has_no_record(run: Run) -> None:
    run.begin("first", {})
    with pytest.raises(StoreError, match="has not finished"):
        run.record("first")


# --- opening a run


def test_the_same_configuration_goes_on_wherever_the_folder_was_moved(run: Run, tmp_path: Path) -> None:
    run.root.rename(tmp_path / "moved")
    assert open_run(tmp_path / "moved", CONFIG | {"out": "moved"}, {"seralign": "1"}).root == tmp_path / "moved"


def test_another_configuration_is_refused_and_every_changed_key_named(run: Run) -> None:
    finish(run, "data")
    other = {"seed": 1, "training": {"learning_rate": 1e-5, "report_to": []}, "new": True}
    with pytest.raises(StoreError) as caught:
        open_run(run.root, other, {})
    for words in (
        "seed was 0, now 1",
        "training.learning_rate was 1e-06, now 1e-05",
        "new was None, now True",
        "--out",
    ):
        assert words in str(caught.value)
    assert "report_to" not in str(caught.value)


def test_a_folder_of_something_else_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=f"^{tmp_path} is not empty and is not a run"):
        open_run(tmp_path, CONFIG, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_was_killed_while_it_began_begins_again(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "run.json.tmp").write_text('{"format"')
    open_run(tmp_path, CONFIG, {})
    assert read_run(tmp_path).root == tmp_path


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", "[" * 5000, '{"format": 99, "config": {}}', '{"format": 2, "config": {}}']
)
def test_a_manifest_of_another_format_is_refused(text: str, run: Run) -> None:
    (run.root / "run.json").write_text(text)
    for read in (lambda: read_run(run.root), lambda: open_run(run.root, CONFIG, {})):
        with pytest.raises(StoreError, match=f"^{run.root / 'run.json'}: "):
            read()


@pytest.mark.parametrize("version", [FORMAT - 1, FORMAT + 1])
def test_a_run_of_another_version_is_one_clear_error(version: int, run: Run) -> None:
    manifest = read_sealed(run.root / "run.json")
    write_sealed(run.root / "run.json", manifest | {"format": version})
    for read in (lambda: read_run(run.root), lambda: open_run(run.root, CONFIG, {})):
        with pytest.raises(StoreError, match=rf"^{run.root / 'run.json'}: .*version.*format {FORMAT}"):
            read()


def test_reading_where_no_run_is(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run here"):
        read_run(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


# --- one process at a time

_HOLDER = """
import sys, time
from pathlib import Path
from seralign.runs.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"^{tmp_path}: another process"), locked(tmp_path):
            raise AssertionError("two processes in one run")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with locked(tmp_path):
        assert (tmp_path / "lock").exists()


# --- files


def full_disk(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_clear_error_and_costs_no_finished_stage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    record = finish(run, "first")
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    writes: list[Callable[[Path], Any]] = [
        lambda folder: write_json(folder / "a.json", {}),
        lambda folder: write_table(folder / "a.parquet", {"x": [1]}),
        lambda folder: run.commit("second", INPUTS, {}, 0.0),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full_disk)
        patch.setattr(pq, "write_table", full_disk)
        for write in writes:
            with (
                pytest.raises(StoreError, match=r"the disk is full\. Finished work is kept"),
                disk_errors(run.root),
            ):
                write(run.begin("second", {}))
    assert {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()} == before
    assert run.verify("first", INPUTS) == record
    assert not run.exists("second")
    assert finish(run, "second").name == "second"


def test_a_full_disk_is_told_also_where_a_library_words_it_in_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the disk is full"), disk_errors(tmp_path):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(StoreError, match=r"exceed the limit on file size .ulimit -f"), disk_errors(tmp_path):
        raise SafetensorError("Error while serializing: I/O error: File too large (os error 27)")
    with pytest.raises(StoreError, match="a checkpoint could not be written"), disk_errors(tmp_path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/0")
    with pytest.raises(StoreError, match="a checkpoint could not be written"), disk_errors(tmp_path):
        raise RuntimeError("basic_ios::clear: iostream error")
    with pytest.raises(RuntimeError, match="something else"), disk_errors(tmp_path):
        raise RuntimeError("something else")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize("size", [1, 100, 10_000, 1_000_000])
def test_what_torch_says_of_a_full_disk_is_known(size: int, tmp_path: Path) -> None:
    """In other words for a small file, which fails when it is closed, than for a large one."""
    with pytest.raises(StoreError, match="could not be written; perhaps the disk is full"), disk_errors(tmp_path):
        torch.save({"state": torch.zeros(size)}, "/dev/full")


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota is used up"), (errno.EFBIG, "ulimit -f"),
     (errno.EIO, "the disk reports an error")],
)  # fmt: skip
def test_a_refused_write_says_why(code: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"^{tmp_path}: .*{words}.*same command again"), disk_errors(tmp_path):
        raise OSError(code, os.strerror(code))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_a_folder_that_cannot_be_written_is_named(code: int, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"^{tmp_path}: cannot be written"), disk_errors(tmp_path):
        raise OSError(code, os.strerror(code))


def test_a_file_in_the_place_of_the_run_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(StoreError, match=f"^{path}: cannot be written"), locked(path):
        pass


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "missing").read_text()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_nan_and_the_file_before_it_stays(value: float, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"loss": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": value})
    assert json.loads(path.read_text()) == {"loss": 0.5}
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_half_way_leaves_the_file_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("whole")

    def half(part: Path) -> None:
        part.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, half)
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_tables_round_trip_and_corrupt_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, {"example_id": ["x", "y"], "margin": [0.1, -2.5]})
    assert read_table(path).to_pydict() == {"example_id": ["x", "y"], "margin": [0.1, -2.5]}
    assert read_table(path, ["margin"]).column_names == ["margin"]
    with pytest.raises(pa.ArrowInvalid):
        write_table(tmp_path / "b.parquet", {"a": [1], "b": [1, 2]})
    path.write_bytes(path.read_bytes()[:-20])
    for broken in (path, tmp_path / "missing.parquet"):
        with pytest.raises(StoreError, match=f"^{broken}: .*Delete the folder {tmp_path}"):
            read_table(broken)


def test_a_run_that_has_finished_nothing_takes_another_configuration(tmp_path: Path) -> None:
    """A typo in the first attempt does not pin the folder."""
    open_run(tmp_path / "run", CONFIG, {})
    run = open_run(tmp_path / "run", CONFIG | {"seed": 99}, {})
    assert read_manifest(run.root)["config"]["seed"] == 99
    finish(run, "first")
    with pytest.raises(StoreError, match="seed was 99"):
        open_run(tmp_path / "run", CONFIG, {})


def test_a_folder_that_cannot_be_made_is_told() -> None:
    with pytest.raises(StoreError, match="cannot be written"), locked(Path("/proc/nothing/here")):
        pass

"""Files of a run that were harmed: what reads them gives the right result or one line, and nothing else."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from hand_made import whole_run
from harms import in_child, kinds, unclean_ends, write_harmed
from small_run import small_config

from seralign.cli.main import main
from seralign.errors import SeralignError
from seralign.runs import read_run

# One round of training alone: a harmed run is carried to its end many times.
ONE_ROUND: dict[str, Any] = {
    "rounds": 1, "sft": None, "evaluation__prompts": 4, "evaluation__baseline": False, "evaluation__token_pairs": 0,
}  # fmt: skip


def test_show_and_report_read_no_harmed_file(tmp_path: Path) -> None:
    import seralign.report.page
    import seralign.report.text  # noqa: F401  imported before forking, so that attempts are quick

    run = whole_run(tmp_path / "run").root

    def show(copy: Path) -> int:
        return main(["show", str(copy), "--json"])

    def report(copy: Path) -> int:
        return main(["report", str(copy), "--out", str(tmp_path / "report.html")])

    assert unclean_ends(run, tmp_path, 0, 40, show, lambda copy: True) == []
    assert unclean_ends(run, tmp_path, 1, 15, report, lambda copy: True) == []


def _train(out: Path) -> int:
    import torch

    from seralign.pipeline import train

    torch.set_num_threads(1)
    try:
        train(small_config(out, **ONE_ROUND))
    except SeralignError as error:
        print(f"error: {error}")
        return 2
    return 0


def _killed_at_the_second_checkpoint(out: Path) -> int:
    from seralign.training.trainer import PreferenceTrainer

    counter, save = itertools.count(1), PreferenceTrainer._save_checkpoint

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(counter) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return save(*args, **kwargs)

    PreferenceTrainer._save_checkpoint = dying
    return _train(out)


def _outputs(run: Path) -> dict[str, dict[str, str]]:
    return {record.name: record.outputs for record in read_run(run).stages()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that was killed after its first checkpoint, and a whole one."""
    import seralign.pipeline  # noqa: F401  imported before forking, so that attempts are quick

    folder = tmp_path_factory.mktemp("runs")
    code, said = in_child(lambda: _killed_at_the_second_checkpoint(folder / "killed"), folder / "said")
    assert code == -signal.SIGKILL, said
    assert (folder / "killed/round-1/train.partial/scratch/checkpoint-2/complete.json").is_file()
    code, said = in_child(lambda: _train(folder / "whole"), folder / "said")
    assert code == 0, said
    return folder / "killed", folder / "whole"


@pytest.mark.parametrize(
    ("seed", "count"), [(2, int(os.environ.get("HARMS", "8"))), pytest.param(3, 120, marks=pytest.mark.real)]
)
def test_a_run_goes_on_to_the_same_end_or_names_what_is_harmed(
    runs: tuple[Path, Path], tmp_path: Path, seed: int, count: int
) -> None:
    """Each kind of file in turn: weights, checkpoints with the optimizer's state, tables, caches, records."""
    killed, whole = runs
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "stage.json"} < kinds(killed).keys()
    wanted = _outputs(whole)
    wanted["result"].pop("README.md")

    def is_right(copy: Path) -> bool:
        found = _outputs(copy)
        found["result"].pop("README.md")
        return found == wanted

    assert unclean_ends(killed, tmp_path, seed, count, _train, is_right) == []


def _flipped(path: Path) -> None:
    """One bit in the middle, and nothing that the system would tell."""
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    write_harmed(path, bytes(whole), silent=True)


@pytest.mark.parametrize(
    "name",
    ["optimizer.pt", *(pytest.param(name, marks=pytest.mark.real) for name in ("model.safetensors", "rng_state.pth"))],
)
def test_a_damaged_checkpoint_is_removed_and_its_steps_are_made_again(
    runs: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    killed, whole = runs
    copy = tmp_path / "run"
    shutil.copytree(killed, copy)
    checkpoint = copy / "round-1/train.partial/scratch/checkpoint-2"
    _flipped(checkpoint / name)
    code, said = in_child(lambda: _train(copy), tmp_path / "said")
    assert code == 0, said
    flat = " ".join(said.split())
    assert flat.count(f"warning: {checkpoint}: the checkpoint is damaged ({name}) and was removed") == 1
    assert "resuming from" not in flat
    found, wanted = _outputs(copy), _outputs(whole)
    assert found["round-1/train"] == wanted["round-1/train"]


@pytest.mark.parametrize(
    ("stage", "options"), [("result", []), ("round-1/train/policy", ["--round", "1"]), ("world/model", None)]
)
def test_damaged_weights_are_refused_and_named(
    runs: tuple[Path, Path], tmp_path: Path, stage: str, options: list[str] | None
) -> None:
    """One bit of a policy to ask, or of the model that a run continues from."""
    killed, whole = runs
    copy = tmp_path / "run"
    shutil.copytree(killed if options is None else whole, copy)
    weights = copy / stage / "model.safetensors"
    _flipped(weights)
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "a"}) + "\n")
    asked = ["sample", str(copy), "--prompts", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    command = (lambda: _train(copy)) if options is None else (lambda: main([*asked, *options]))
    code, said = in_child(command, tmp_path / "said")
    assert code == 2, said
    assert f"error: {weights}: its contents have changed since it was written" in said
    assert not (tmp_path / "out.jsonl").exists()
    assert in_child(lambda: main(["verify", str(copy)]), tmp_path / "said")[0] == 1


@pytest.mark.parametrize("limit", [200_000, 600_000, 800_000])
def test_a_limit_on_the_size_of_files_ends_a_run_with_one_line_and_costs_nothing(
    limit: int, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    """As a full disk does. What meets a limit is a model's weights, the cache, or a checkpoint's optimizer."""

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return _train(tmp_path / "run")

    code, said = in_child(limited, tmp_path / "said")
    assert code == 2, said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert str(tmp_path / "run") in error
    assert "same command again" in error
    code, said = in_child(lambda: _train(tmp_path / "run"), tmp_path / "said")
    assert code == 0, said
    found, wanted = _outputs(tmp_path / "run"), _outputs(runs[1])
    for outputs in (found, wanted):
        outputs["result"].pop("README.md")
    assert found == wanted

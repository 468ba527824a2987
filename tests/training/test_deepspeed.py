"""Two processes (torchrun, gloo, on the CPU) with DeepSpeed's ZeRO-2 and ZeRO-3 train what one does without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import deepspeed_training
import pytest
import torch
from safetensors.torch import load_file
from training_helpers import metrics

pytestmark = [pytest.mark.real, pytest.mark.timeout(500)]
pytest.importorskip("deepspeed")


def launch(model: Path, folder: Path, shard: str, processes: int) -> str:
    """What the processes wrote."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *(path for path in sys.path if path)])
    # DeepSpeed compiles its communication, with the ninja beside this Python.
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {
        "PYTHONPATH": paths, "PATH": programs, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
    }  # fmt: skip
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*launcher, deepspeed_training.__file__, str(model), str(folder), shard]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=450)
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stderr


@pytest.fixture(scope="module")
def alone(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The model, and what one process made of it."""
    folder = tmp_path_factory.mktemp("alone")
    deepspeed_training.main(tiny_model("llama"), folder, "none")
    return tiny_model("llama"), folder


@pytest.mark.parametrize("shard", ["zero2", "zero3"])
def test_two_processes_train_what_one_does(alone: tuple[Path, Path], tmp_path: Path, shard: str) -> None:
    model, one = alone
    launch(model, tmp_path, shard, 2)
    found = [json.loads((tmp_path / f"found-{rank}.json").read_text()) for rank in (0, 1)]
    for weights, state, whole in found:
        assert state < 0.6 * whole
        assert weights < 0.6 * whole if shard == "zero3" else weights == whole
    assert sum(state for _, state, _ in found) >= found[0][2]
    for case, file in (("whole", "model.safetensors"), ("lora", "adapter_model.safetensors")):
        own, other = (load_file(folder / case / "policy" / file) for folder in (one, tmp_path))
        assert own.keys() == other.keys()
        assert {value.dtype for value in other.values()} == {torch.float32}
        assert max(float((value - other[name]).abs().max()) for name, value in own.items()) < 1e-6
        for line, theirs in zip(metrics(one / case), metrics(tmp_path / case), strict=True):
            if line["step"] == 0:  # margins begin at rounding, whose sign is no accuracy
                theirs["eval_rewards/accuracies"] = line["eval_rewards/accuracies"]
            assert line == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    own, other = (load_file(tmp_path / case / "policy" / "model.safetensors") for case in ("whole", "resumed"))
    assert max(float((value - other[name]).abs().max()) for name, value in own.items()) < 1e-7
    # In mixed precision, too, the weights are those of the policy's data type, and margins begin at rounding.
    halves = load_file(tmp_path / "bfloat16" / "policy" / "model.safetensors")
    assert {value.dtype for value in halves.values()} == {torch.float32}
    assert abs(metrics(tmp_path / "bfloat16")[0]["eval_margins"]) < 0.01
    assert metrics(tmp_path / "bfloat16")[-1]["eval_loss"] == pytest.approx(
        metrics(one / "bfloat16")[-1]["eval_loss"], abs=0.01
    )
    if shard == "zero2":
        # Three cannot use what two have saved, and leave it for them.
        said = " ".join(launch(model, tmp_path, shard, 3).split())
        assert said.count("checkpoints of this training were saved by 2 processes, and DeepSpeed resumes only") == 1
        assert (tmp_path / "elsewhere/scratch/2-processes/checkpoint-2/complete.json").is_file()
        own, other = (load_file(tmp_path / case / "policy/model.safetensors") for case in ("whole", "elsewhere"))
        assert max(float((value - other[name]).abs().max()) for name, value in own.items()) < 1e-6
        assert metrics(tmp_path / "elsewhere")[-1]["eval_loss"] == pytest.approx(
            metrics(tmp_path / "whole")[-1]["eval_loss"], abs=1e-6
        )

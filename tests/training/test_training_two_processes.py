"""Two processes (torchrun, gloo, on the CPU) train what one does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import two_processes
from safetensors.torch import load_file
from training_helpers import metrics


@pytest.mark.timeout(120)
def test_two_processes_train_as_one(tiny_model: Callable[[str], Path], tmp_path: Path):
    model = tiny_model("llama")
    two_processes.main(model, tmp_path / "one")
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    # pytest finds the helpers of all tests; a process of its own does not.
    environment["PYTHONPATH"] = f"{Path(__file__).parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, two_processes.__file__, str(model), str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]

    one, two, start = (
        load_file(folder / "model.safetensors")
        for folder in (tmp_path / "one" / "policy", tmp_path / "two" / "policy", model)
    )
    assert max(float((value - start[name]).abs().max()) for name, value in one.items()) > 1e-3
    assert max(float((value - two[name]).abs().max()) for name, value in one.items()) < 1e-6
    lines = metrics(tmp_path / "one")
    assert [line["step"] for line in lines] == [line["step"] for line in metrics(tmp_path / "two")]
    for line, other in zip(lines, metrics(tmp_path / "two"), strict=True):
        assert line == pytest.approx(other, rel=1e-4, abs=1e-5)
        for name in ("lengths/chosen", "eval_lengths/chosen"):  # a pair counted twice would change these
            if name in line:
                assert line[name] == pytest.approx(other[name], rel=1e-12)

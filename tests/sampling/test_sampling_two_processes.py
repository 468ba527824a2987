"""Two processes (torchrun, gloo, on the CPU) sample what one does, by an engine in both and by one in the main one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import sampled_by_processes
import tiny


@pytest.mark.real
@pytest.mark.timeout(120)
def test_two_processes_sample_as_one(tmp_path: Path) -> None:
    model = Path(tiny.save_model(tmp_path / "model").model)
    sampled_by_processes.main(model, tmp_path / "one")
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, sampled_by_processes.__file__, str(model), str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]

    one, *both = (
        json.loads((tmp_path / folder / f"found-{rank}.json").read_text())
        for folder, rank in (("one", 0), ("two", 0), ("two", 1))
    )
    assert both == [one, one], "every process has all answers"
    assert one["local"] == one["local, again"]
    order = [(prompt.prompt_id, index) for prompt in sampled_by_processes.PROMPTS for index in range(3)]
    for name in ("local", "elsewhere"):
        assert [(row["prompt_id"], row["index"]) for row in one[name]] == order
    assert len({tuple(row["ids"]) for row in one["local"]}) > 10
    # The engine elsewhere is asked by the main process, once for each prompt, though two processes want the answers.
    for folder in ("one", "two"):
        asked = Counter((tmp_path / folder / "asked-0").read_text().split())
        assert asked == dict.fromkeys((prompt.prompt_id for prompt in sampled_by_processes.PROMPTS), 1)
    assert not (tmp_path / "two" / "asked-1").exists()

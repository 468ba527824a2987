"""The default recipe as users run it: a YAML file and the command line, by one process and by two."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from report.packed_pairs import filters, unpacked
from safetensors.torch import load_file

from seralign.config import WorldConfig, load_config, to_dict
from seralign.config.recipes import recipe_name
from seralign.laboratory.world import make_world
from seralign.runs import Run, read_run
from seralign.runs.files import read_table

# Nothing but sizes, and what the machine's load would choose: all else is the default.
RUN: dict[str, Any] = {
    "out": "run",
    "data": {"max_length": 48, "heldout_fraction": 0.2, "keep_columns": ["annotator"]},
    "training": {"learning_rate": 1e-3, "max_steps": 4, "batch_size": 16, "save_steps": 3, "precision": "float32"},
    "scoring": {"dtype": "float32"},
    "bootstrap": {"samples": 3, "max_new_tokens": 24},
    "evaluation": {"prompts": 16},
    "stop": {"metric": "never"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, pairs in its language, and a configuration that names them as a user would."""
    folder = tmp_path_factory.mktemp("whole")
    make_world(WorldConfig(pairs=80, demonstrations=8, prompts=8, heldout=8), folder)
    given = RUN | {"policy": {"model": "model"}, "data": RUN["data"] | {"pairs": {"path": "pairs.jsonl"}}}
    (folder / "run.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    more = [json.dumps(row | {"annotator": f"person {at % 3}"}) for at, row in enumerate(rows)]
    (folder / "pairs.jsonl").write_text("".join(line + "\n" for line in more))
    return folder


def environment() -> dict[str, str]:
    """That of a process of its own, on processors."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def command(folder: Path, out: str, *launcher: str, shard: str = "none") -> Run:
    """``seralign train run.yaml`` in the folder, as a process of its own."""
    whole = [sys.executable, *launcher, "-m", "seralign.cli.main", "train", "run.yaml", "--out", out]
    whole += ["--training.shard", shard]
    done = subprocess.run(whole, cwd=folder, env=environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return read_run(folder / out)


@pytest.fixture(scope="module")
def one(folder: Path) -> Run:
    return command(folder, "one")


def column(run: Run, stage: str, file: str, name: str) -> list[Any]:
    return read_table(run.path(stage, file))[name].to_pylist()


def test_the_default_recipe_runs_from_a_file(folder: Path, one: Run) -> None:
    config = to_dict(load_config(folder / "run.yaml", {"policy.model": str(folder / "model")}))
    assert recipe_name(config) == "sera"
    names = ["evaluate", "train", "tokens", "decide", "score", "select", "sample", "bootstrap", "compose"]
    first = {f"round-1/{name}" for name in names[:4]}
    later = {f"round-{index}/{name}" for index in (2, 3) for name in names}
    expected = {"precision", "data", "policies", "initial/evaluate", "result"} | first | later
    assert {record.name for record in one.stages()} == expected

    # 64 of 80 pairs are trained on, give or take the pairs of a prompt; 70% are kept.
    pairs = one.record("data").figures["pairs"]
    assert 60 <= pairs <= 68
    for index in (2, 3):
        figures = {name: one.record(f"round-{index}/{name}").figures for name in names}
        assert figures["select"]["kept"] == int(0.7 * pairs + 0.5)
        assert figures["select"]["length_slope"] == figures["bootstrap"]["length_slope"] == 0.0
        assert figures["sample"]["sampled_from"] == f"round {index - 1}"
        assert figures["bootstrap"]["kept"] == int(0.6 * figures["bootstrap"]["pairs"] + 0.5) > 0
        mixed = figures["compose"]
        assert mixed["share_wanted"] == {2: 0.3, 3: 0.5}[index]
        assert mixed["offline"] + mixed["generated"] == figures["train"]["pairs"]
        used = column(one, f"round-{index}/compose", "training.parquet", "used")
        assert sum(used) == figures["train"]["pairs"]
        assert figures["train"]["steps"] == 4
    # One reference for all rounds, each policy another.
    digests = [one.record(f"round-{index}/train").figures["digest"] for index in (1, 2, 3)]
    assert len({*digests, one.record("policies").figures["reference"]["digest"]}) == 4
    assert [one.record(f"round-{index}/train").inputs["reference"] for index in (1, 2, 3)] == [
        one.record("policies").figures["reference"]["digest"]
    ] * 3
    assert one.record("result").figures["policy"] == "round 3"
    assert one.record("result").figures["digest"] == digests[2]
    assert (one.root / "report.html").stat().st_size > 100_000


def test_kept_columns_travel_from_the_rows_to_the_report(folder: Path, one: Run) -> None:
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    given = {(row["prompt"], row["chosen"], row["rejected"]): row["annotator"] for row in rows}
    page = (one.root / "report.html").read_text(encoding="utf-8")
    scripts = dict(re.findall(r'<script type="[a-z/-]+" id="(pairs|numbers|text|tokens)-0">(.*?)</script>', page))
    header = json.loads(scripts.pop("pairs"))
    found, _, _ = unpacked(header, scripts)
    offline = {row["id"]: row for row in found if row["origin"] == "offline"}
    assert len(offline) == one.record("data").figures["pairs"]
    for row in offline.values():
        assert row["carried"] == {"annotator": given[row["prompt"], row["chosen"], row["rejected"]]}
    assert filters(header, scripts) == {"annotator": ["person 0", "person 1", "person 2"]}
    generated = [row for row in found if row["origin"] != "offline"]
    assert len(generated) > 0
    assert all(row["carried"] == {"annotator": None} for row in generated)


def assert_same(one: Run, two: Run) -> None:
    """Sums differ in the last digits alone, which are too small here to choose another pair or token."""
    assert [record.name for record in one.stages()] == [record.name for record in two.stages()]
    for record in one.stages():
        for name in record.outputs:
            if name.endswith("selection.parquet") or name.endswith("training.parquet"):
                for key in ("example_id", "kept", "reason", "used", "origin"):
                    if key in read_table(one.path(record.name, name)).column_names:
                        assert column(one, record.name, name, key) == column(two, record.name, name, key)
            elif name.endswith("candidates.parquet"):
                assert column(one, record.name, name, "ids") == column(two, record.name, name, "ids")
            elif name.endswith(".safetensors"):
                own, other = (load_file(run.path(record.name, name)) for run in (one, two))
                # Adam divides by the size of the gradient: where it is almost zero, its last digits move a weight.
                apart = torch.cat([(own[key] - other[key]).abs().flatten() for key in own])
                assert float(apart.max()) < 5e-4
                assert float(apart.mean()) < 1e-6
            elif name.endswith("metrics.jsonl"):
                lines = [run.path(record.name, name).read_text().splitlines() for run in (one, two)]
                for line, other in zip(*(map(json.loads, text) for text in lines), strict=True):
                    assert line == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert not list(two.root.rglob("*.partial"))


LAUNCHER = ("-m", "torch.distributed.run", "--standalone")


ACCELERATE = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1",
              "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0")  # fmt: skip


@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param((*LAUNCHER, "--nproc-per-node=2"), id="torchrun"),
        pytest.param(ACCELERATE, id="accelerate", marks=pytest.mark.real),
    ],
)
def test_two_processes_run_what_one_does(
    folder: Path, one: Run, launcher: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    assert_same(one, command(folder, request.node.callspec.id, *launcher))


@pytest.mark.real
@pytest.mark.timeout(600)
def test_a_killed_process_ends_a_divided_run_which_three_resume(folder: Path, one: Run) -> None:
    launcher = [sys.executable, *LAUNCHER, "--nproc-per-node=2"]
    whole = [*launcher, "-m", "seralign.cli.main", "train", "run.yaml", "--out", "divided", "--training.shard", "fsdp"]
    running = subprocess.Popen(whole, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
    while not list((folder / "divided").rglob("checkpoint-3/complete.json")):
        assert running.poll() is None
        time.sleep(0.05)
    psutil.Process(running.pid).children()[1].kill()
    began = time.monotonic()
    _, errors = running.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert running.returncode != 0
    assert "SIGKILL" in errors
    # The checkpoint is that of two processes.
    assert_same(one, command(folder, "divided", *LAUNCHER, "--nproc-per-node=3", shard="fsdp"))

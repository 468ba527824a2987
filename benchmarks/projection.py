"""The formulas of ``seralign plan --gpu`` against a training on this machine's processor.

    OMP_NUM_THREADS=1 python -m benchmarks.projection MODEL PAIRS [--tokens 2048] [--key value ...]

MODEL is a folder and PAIRS a file of pairs. Trainings of one and of a few steps run in processes of their own. The peak
of resident memory, less that of a process that has only imported everything, is compared with the formula. So is the
processor's time of a step (with the reference's passes for it), at the rate of matrix products that this processor
reaches in the same precision.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from seralign.config import RunConfig, load_config
from seralign.config.yaml12 import parse_yaml
from seralign.pipeline.projection.data import data_sizes
from seralign.pipeline.projection.devices import Device
from seralign.pipeline.projection.memory import Machine, part_memory
from seralign.pipeline.projection.shape import model_config, model_shape
from seralign.pipeline.projection.speed import Efficiency, part_seconds
from seralign.pipeline.projection.work import run_work
from seralign.policy.load import DTYPES

_IMPORTS = "import seralign.pipeline, torch, transformers, datasets, peft, seralign.training.trainer"
_USED = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
    "own = resource.getrusage(resource.RUSAGE_CHILDREN); print(own.ru_maxrss, own.ru_utime + own.ru_stime)"
)
# Of the products that are timed, and how often; the fastest counts.
_WIDTH, _ROWS, _TIMES = 768, 2048, 20
_STEPS = 3


def main(arguments: list[str]) -> None:
    """Print measured and predicted figures and their ratios."""
    parser = argparse.ArgumentParser(prog="benchmarks.projection")
    parser.add_argument("model")
    parser.add_argument("pairs")
    parser.add_argument("--tokens", type=int, default=2048)
    options, keys = parser.parse_known_args(arguments)
    more = {key.removeprefix("--"): parse_yaml(value, key) for key, value in zip(keys[::2], keys[1::2], strict=True)}
    values = {
        "rounds": 1, "policy.model": options.model, "data.pairs.path": options.pairs, "data.max_length": 512,
        "data.heldout_fraction": 0.001, "training.batch_size": 8, "training.tokens_per_pack": options.tokens,
        "training.learning_rate": 1e-6, "training.precision": "bfloat16", "scoring.dtype": "bfloat16",
        "scoring.tokens_per_pack": options.tokens, "evaluation.prompts": 0, "evaluation.token_pairs": 0,
    } | more  # fmt: skip
    idle, _ = _used([sys.executable, "-c", _IMPORTS])
    (_, before), (peak, after) = (_trained(values | {"training.max_steps": steps}) for steps in (1, 1 + _STEPS))
    config = load_config(None, values | {"out": "unused", "training.max_steps": _STEPS})
    _compare(config, idle, peak, (after - before) / _STEPS)


def _trained(values: dict[str, object]) -> tuple[int, float]:
    """Peak bytes and processor seconds of a run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.yaml"
        file.write_text(json.dumps(values | {"out": f"{folder}/run"}), encoding="utf-8")
        code = "import sys; from seralign.cli.main import main; sys.exit(main(sys.argv[1:]))"
        return _used([sys.executable, "-c", code, "train", str(file)])


def _used(command: list[str]) -> tuple[int, float]:
    done = subprocess.run([sys.executable, "-c", _USED, *command], check=True, stdout=subprocess.PIPE, text=True)
    size, seconds = done.stdout.split()
    return int(size) * 1024, float(seconds)


def _rate(precision: str) -> float:
    """FLOP/s of matrix products here."""
    dtype = DTYPES[precision]
    one, other = torch.randn(_ROWS, _WIDTH).to(dtype), torch.randn(_WIDTH, _WIDTH).to(dtype)
    best = float("inf")
    for _ in range(_TIMES):
        began = time.process_time()
        torch.mm(one, other)
        best = min(best, time.process_time() - began)
    return 2 * _ROWS * _WIDTH * _WIDTH / best


def _compare(config: RunConfig, idle: int, peak: int, step: float) -> None:
    rate = _rate(config.training.precision)
    own = {"logits": 8 * 2**20, "kept": 32 * 2**20, "probabilities": True, "foreach": False}
    machine = Machine(Device("cpu", rate, 1e18, 1e18, 1e18, 1e18, **own))
    shape = model_shape(model_config(config.policy), config.policy.lora)
    parts = [part for part in run_work(config, data_sizes(config, {})) if part.stage == "round-1/train"]
    training = next(part for part in parts if part.kind == "training")
    memory = part_memory(training, config, shape, machine)
    used = (peak - idle) / 1e9
    print(f"{shape.weights:,} weights, {shape.trained:,} trained")
    print(memory)
    print(
        f"memory: {used:.2f} GB measured, {memory.total / 1e9:.2f} GB from the formula: {used * 1e9 / memory.total:.2f}"
    )
    seconds = sum(
        part_seconds(part, config, shape, machine, Efficiency(mfu=1.0, bandwidth=1.0))
        for part in parts
        if part.kind != "evaluation"
    )
    found = f"{step:.1f} s measured, {seconds / _STEPS:.1f} s from the formula at {rate / 1e9:.0f} GFLOP/s"
    print(f"step: {found}: {step * _STEPS / seconds:.2f}, an MFU of {seconds / _STEPS / step:.0%}")


if __name__ == "__main__":
    main(sys.argv[1:])

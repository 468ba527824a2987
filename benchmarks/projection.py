"""The formulas of ``seralign plan --gpu`` against a training on this machine's processor.

    OMP_NUM_THREADS=1 python -m benchmarks.projection MODEL PAIRS [--tokens 2048] [--key value ...]

MODEL is a folder and PAIRS a file of pairs. Trainings of one and of a few steps run in processes of their own. Their
peak of resident memory is compared with the formula, after what a process takes in any case: that is what the same
training of a model of one narrow layer takes beyond its own formula. The processor's time of a step (with the
reference's passes for it) is compared too, at the rate of matrix products that this processor reaches in the same
precision.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from seralign.config import RunConfig, load_config
from seralign.config.yaml12 import parse_yaml
from seralign.pipeline.projection.data import data_sizes
from seralign.pipeline.projection.devices import Device
from seralign.pipeline.projection.memory import Machine, part_memory
from seralign.pipeline.projection.parts import Part
from seralign.pipeline.projection.shape import ModelShape, model_config, model_shape
from seralign.pipeline.projection.speed import Efficiency, part_seconds
from seralign.pipeline.projection.work import run_work
from seralign.policy.load import DTYPES

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
    with tempfile.TemporaryDirectory() as folder:
        narrow_model(options.model, folder)
        narrow = values | {"policy.model": folder, "out": "unused", "training.max_steps": 1}
        idle = _trained(narrow)[0] - _memory(load_config(None, narrow))
    (_, before), (peak, after) = (_trained(values | {"training.max_steps": steps}) for steps in (1, 1 + _STEPS))
    config = load_config(None, values | {"out": "unused", "training.max_steps": _STEPS})
    _compare(config, idle, peak, (after - before) / _STEPS)


def narrow_model(model: str, folder: str) -> None:
    """A model of one narrow layer with the same tokenizer."""
    settings = AutoConfig.from_pretrained(model)
    narrow = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 32}
    for name, value in (narrow | {"num_attention_heads": 1, "num_key_value_heads": 1}).items():
        setattr(settings, name, value)
    AutoModelForCausalLM.from_config(settings, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)


def _trained(values: dict[str, Any]) -> tuple[int, float]:
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


def cpu(rate: float) -> Machine:
    own = {"logits": 8 * 2**20, "kept": 32 * 2**20, "probabilities": True, "foreach": False}
    return Machine(Device("cpu", rate, 1e18, 1e18, 1e18, 1e18, **own))


def _parts(config: RunConfig) -> list[Part]:
    return [part for part in run_work(config, data_sizes(config, {})) if part.stage == "round-1/train"]


def _memory(config: RunConfig) -> int:
    training = next(part for part in _parts(config) if part.kind == "training")
    return int(part_memory(training, config, _shape(config), cpu(1.0)).total)


def _shape(config: RunConfig) -> ModelShape:
    return model_shape(model_config(config.policy), config.policy.lora)


def print_memory(weights: int, peak: float, idle: float, expected: float) -> None:
    """Print the peak bytes of a process and of any process, and what is between them beside the formula."""
    used, expected = (peak - idle) / 1e9, expected / 1e9
    print(f"{weights:,} weights; {peak / 1e9:.2f} GB of the process, {idle / 1e9:.2f} GB of any process")
    print(f"memory: {used:.2f} GB measured, {expected:.2f} GB from the formula: {used / expected:.2f}")


def _compare(config: RunConfig, idle: int, peak: int, step: float) -> None:
    rate, shape, parts = _rate(config.training.precision), _shape(config), _parts(config)
    machine = cpu(rate)
    print_memory(shape.weights, peak, idle, _memory(config))
    seconds = sum(
        part_seconds(part, config, shape, machine, Efficiency(mfu=1.0, bandwidth=1.0))
        for part in parts
        if part.kind != "evaluation"
    )
    found = f"{step:.1f} s measured, {seconds / _STEPS:.1f} s from the formula at {rate / 1e9:.0f} GFLOP/s"
    print(f"step: {found}: {step * _STEPS / seconds:.2f}, an MFU of {seconds / _STEPS / step:.0%}")


if __name__ == "__main__":
    main(sys.argv[1:])

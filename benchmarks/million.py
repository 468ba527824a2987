"""The memory of a whole run of two SeRA rounds over many pairs, as it goes.

    python -m benchmarks.million --pairs 1000000 --json FILE --svg FILE [--threads N]

Synthetic pairs of about ten tokens a part, a model of next to no work, and responses that cost nothing, one request
of two responses for each prompt. All stages are those of a run: data, training (two steps), scoring, selection,
sampling, bootstrapping, composing. The run has a process of its own, of which resident memory is read five times a
second: all of it, and that without mapped files (tables that the system holds in memory as long as it has room).
Compare two numbers of pairs: nothing is to grow with them but a few numbers for each, in arrays.
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.common import add_precision, machine, precision
from benchmarks.growth import texts, write_rows
from benchmarks.million_plot import memory_svg
from benchmarks.models import make_tokenizer
from benchmarks.workers import pin
from seralign.config import load_config
from seralign.policy.quiet import quiet_transformers

_STAGE = re.compile(r"^\[([a-z0-9/-]+)\]$")
_EVERY = 0.2


@dataclass(frozen=True)
class Sample:
    """Resident memory in MB at a time in seconds: all of it, and that without mapped files."""

    seconds: float
    stage: str
    resident: float
    anonymous: float


def configuration(folder: Path, pairs: int) -> dict[str, Any]:
    """Write pairs and a model; return a run of two rounds over them."""
    tokenizer = make_tokenizer(texts(2000), vocabulary=2000)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder / "model")
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2,
                             "num_hidden_layers": 1, "max_position_embeddings": 256}  # fmt: skip
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    with quiet_transformers():
        LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape, **ends)).save_pretrained(folder / "model")
    write_rows(folder / "pairs.jsonl", pairs)
    return {
        "recipe": "sera",
        "rounds": 2,
        "out": str(folder / "run"),
        "policy.model": str(folder / "model"),
        "data.pairs.path": str(folder / "pairs.jsonl"),
        "data.heldout_fraction": 0.0,
        "data.max_length": 128,
        "training": {"max_steps": 2, "batch_size": 32, "precision": "float32"},
        "scoring.dtype": "float32",
        "bootstrap": {"samples": 2, "max_new_tokens": 48, "engine": "benchmarks.million_engine:Random"},
        "evaluation": {"prompts": 0, "baseline": False, "token_pairs": 0},
        "stop.metric": "never",
    }


def watch(config: Path, threads: int) -> list[Sample]:
    """Carry out the run of a configuration in a process of its own, and read its memory as it goes."""
    command = [sys.executable, "-m", "benchmarks.million", "--run", str(config), "--threads", str(threads)]
    began, stage, found = time.monotonic(), "start", []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        reader = threading.Thread(target=lambda stream: [lines.put(line) for line in stream], args=(process.stdout,))
        reader.start()
        said: list[str] = []
        while process.poll() is None:
            while not lines.empty():
                said.append(lines.get())
                if match := _STAGE.match(said[-1].strip()):
                    stage = match[1]
                    print(f"{time.monotonic() - began:7.0f} s  {stage}", file=sys.stderr, flush=True)
            memory = _memory(process.pid)
            if memory is not None:
                found.append(Sample(round(time.monotonic() - began, 2), stage, *memory))
            time.sleep(_EVERY)
        reader.join()
    if process.returncode != 0:
        raise SystemExit("".join([*said, *(lines.get() for _ in range(lines.qsize()))][-40:]))
    return found


def peaks(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Seconds and peak memory of each stage."""
    found: dict[str, dict[str, float]] = {}
    for sample in samples:
        own = found.setdefault(sample.stage, {"began": sample.seconds, "resident_mb": 0.0, "anonymous_mb": 0.0})
        own["seconds"] = round(sample.seconds - own["began"], 2)
        own["resident_mb"] = max(own["resident_mb"], sample.resident)
        own["anonymous_mb"] = max(own["anonymous_mb"], sample.anonymous)
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000, help="number of pairs")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--svg", type=Path, help="file to write the plot to")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    add_precision(parser)
    options = parser.parse_args()
    pin(options.threads)
    if options.run is not None:
        _run(options.run, options.threads)
        return
    with tempfile.TemporaryDirectory(prefix="seralign-million-") as scratch:
        folder = Path(scratch)
        config = folder / "config.json"
        config.write_text(json.dumps(configuration(folder, options.pairs)), encoding="utf-8")
        samples = watch(config, options.threads)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    figures = {"benchmark": "million", "pairs": options.pairs, "threads": options.threads}
    figures |= machine(precision(options.precision))
    figures |= {"seconds": samples[-1].seconds, "disk_mb": round(size / 1e6), "stages": peaks(samples)}
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures | {"samples": [asdict(one) for one in samples]}), encoding="utf-8")
    if options.svg:
        points = [(one.seconds, one.resident, one.anonymous) for one in samples]
        stages = {name: own["began"] for name, own in figures["stages"].items()}
        options.svg.write_text(memory_svg(f"{options.pairs:,} pairs", points, stages), encoding="utf-8")


def _run(config: Path, threads: int) -> None:
    from seralign.pipeline import train

    torch.set_num_threads(threads)
    train(load_config(None, json.loads(config.read_text(encoding="utf-8"))))


def _memory(process: int) -> tuple[float, float] | None:
    """Resident memory in MB: all, and that which maps no file; None where the process has ended."""
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = {name: int(value.split()[0]) / 1024 for name, _, value in (line.partition(":") for line in
             text.splitlines()) if name in ("VmRSS", "RssAnon")}  # fmt: skip
    return (round(found["VmRSS"], 1), round(found["RssAnon"], 1)) if len(found) == 2 else None


if __name__ == "__main__":
    main()

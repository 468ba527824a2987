"""Training and scoring on one GPU: TRL and seralign, on a random Llama with the sizes of Llama 3.2 1B.

    python -m benchmarks.train_gpu --json FILE [--repetitions N]
    python -m benchmarks.train_gpu --smoke

Written for ten minutes on one H100 or H200; it has not been run on one. The folder for temporary files needs 20 GB.
Everything is made here: 1.24 billion random float32 weights, and pairs of made-up words with prompts and responses of
many lengths, window 1024. Both sides compute in bfloat16 autocast. Training is measured as by ``train_alpaca`` and
scoring as by ``score_alpaca``, with their checks that both sides computed the same (``equal``); ours has 8,192 tokens
to a pack in training.

Tokens are those of both sequences of a pair, with the prompt counted twice for both sides. MFU is the share of the
GPU's peak rate of dense bfloat16 products that useful work takes: 6 FLOP (2 in scoring) for each body weight and token,
prompts counted once, and for each weight of the output layer and response token. It is the same work for both sides,
however often they compute it. Memory is the peak of what torch allocates on the GPU.

``--smoke`` does the same on a model of next to no work, on a processor too, to try that it runs. Its figures say
nothing: its loss moves too little for the check of training to pass.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.common import Options, machine
from benchmarks.models import LlamaShape
from benchmarks.workers import pin
from seralign.pipeline.projection.devices import DEVICES

_LLAMA_1B = LlamaShape(layers=16, width=2048, inner=8192, heads=32, key_heads=8, vocabulary=128256)
_TINY = LlamaShape(layers=1, width=32, inner=64, heads=2, key_heads=1)
# Versions of a GPU that are slower than the one of the table, as the driver names them.
_SLOWER = {"pcie", "nvl", "mig"}
_SYLLABLES = [first + second for first in "bdfgklmnprst" for second in "aeiou"]


@dataclass(frozen=True)
class Size:
    """How much a benchmark does: pairs that are trained on and scored, and median words of prompts and responses."""

    shape: LlamaShape
    training: int
    scoring: int
    prompt: int
    response: int


_WHOLE = Size(_LLAMA_1B, training=96, scoring=192, prompt=100, response=220)
_SMOKE = Size(_TINY, training=16, scoring=16, prompt=6, response=8)


@dataclass(frozen=True)
class Work:
    """The work of a pair on average: ``tokens`` of both sequences, ``flop`` that are useful."""

    tokens: float
    flop: float


def work(shape: LlamaShape, parameters: int, tokens: float, response_tokens: float, each: int) -> Work:
    """The work of a pair.

    Args:
        shape: Of the model.
        parameters: Of the model, embeddings counted once.
        tokens: Of both sequences, the prompt counted twice.
        response_tokens: Of both responses.
        each: FLOP for a weight and a token: 6 forward and backward, 2 forward.
    """
    head = shape.vocabulary * shape.width
    packed = (tokens + response_tokens) / 2
    return Work(tokens, each * ((parameters - head) * packed + head * response_tokens))


def peak_flops(name: str) -> float | None:
    """The peak rate of dense bfloat16 products of a GPU by its name; None where the table of ``plan`` lacks it."""
    words = set(name.lower().replace("-", " ").split())
    if words & _SLOWER:
        return None
    return next((device.flops for device in DEVICES.values() if device.name.split("-")[0] in words), None)


def summary(figures: dict[str, Any], pair: Work, peak: float | None) -> dict[str, Any]:
    """Tokens a second, MFU and peak memory of both sides, from the figures of ``common.comparison``."""
    rates = {side: figures[side]["rate_median"] for side in ("peer", "ours")}
    return {
        "tokens_a_second": {side: round(rate * pair.tokens) for side, rate in rates.items()},
        "mfu": None if peak is None else {side: round(rate * pair.flop / peak, 4) for side, rate in rates.items()},
        "peak_memory_gb": {side: round(figures[side]["peak_memory_mb"] * 2**20 / 1e9, 1) for side in rates},
    }


def row(device: str, what: str, figures: dict[str, Any]) -> str:
    """The line of the table in ``RESULTS.md``."""
    found = figures["summary"]
    mfu = found["mfu"]
    cells = [
        device,
        what,
        ", ".join(f"{found['tokens_a_second'][side]:,}" for side in ("peer", "ours")),
        f"{figures['ratio_speed']:.1f}",
        "unknown" if mfu is None else ", ".join(f"{mfu[side]:.1%}" for side in ("peer", "ours")),
        ", ".join(f"{found['peak_memory_gb'][side]}" for side in ("peer", "ours")),
        "yes" if figures["equal"] else "no",
    ]
    return f"| {' | '.join(cells)} |"


def made_up_rows(count: int, prompt: int, response: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of the format of the other benchmarks' data; lengths are lognormal around the medians, in words."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(3000)]

    def text(median: int) -> str:
        return " ".join(rng.choices(words, k=max(2, round(median * math.exp(rng.gauss(0, 0.5))))))

    return [
        {"prompt_id": number, "prompt": text(prompt), "response_a": text(response), "response_b": text(response),
         "p_b": rng.choice((0.0, 1.0))}
        for number in range(count)
    ]  # fmt: skip


def measure(size: Size, options: Options, device: str, scratch: Path) -> dict[str, Any]:
    """The figures of training and scoring."""
    from benchmarks import ours, peers
    from benchmarks.inputs import alpaca_pairs
    from benchmarks.scoring import Sides, measure_scoring
    from benchmarks.training import measure_training

    made = made_up_rows(2 * max(size.training, size.scoring), size.prompt, size.response)
    options.pairs.write_text("".join(json.dumps(each) + "\n" for each in made), encoding="utf-8")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        training = measure_training(replace(options, size=size.training), Path(folder), alpaca_pairs)
    sizes = training["sizes"]
    pair = work(size.shape, sizes["parameters"], sizes["tokens_per_pair"], sizes["response_tokens_per_pair"], 6)
    found["training"] = training | {"summary": summary(training, pair, peak_flops(device))}
    sides = Sides(peers.precomputation, ours.scoring, "trl.DPOTrainer, precompute_ref_log_probs", "pairs", 1)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        scoring = measure_scoring(replace(options, size=size.scoring), Path(folder), alpaca_pairs, sides)
    sizes = scoring["sizes"]
    tokens, responses = (sizes[name] / sizes["pairs"] for name in ("tokens", "response_tokens"))
    pair = work(size.shape, sizes["parameters"], tokens, responses, 2)
    found["scoring"] = scoring | {"summary": summary(scoring, pair, peak_flops(device))}
    return found | {"rows": [row(device, what, found[what]) for what in ("training", "scoring")]}


def main() -> None:
    """The command."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--threads", type=int, default=4, help="processor threads")
    parser.add_argument("--repetitions", type=int, default=2, help="turns of each side that are counted")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, to try the benchmark, without a GPU too")
    given = parser.parse_args()
    gpus = torch.cuda.device_count()
    if not gpus and not given.smoke:
        sys.exit("train_gpu needs a GPU that PyTorch can use; --smoke tries it on a processor")
    if gpus > 1:
        sys.exit(f"train_gpu measures one GPU, and there are {gpus}: set CUDA_VISIBLE_DEVICES=0")
    size = _SMOKE if given.smoke else _WHOLE
    device = torch.cuda.get_device_name() if gpus else "processor"
    precision = "bfloat16" if gpus else "float32"
    pin(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        options = Options(
            json=given.json,
            pairs=Path(scratch) / "made-up.jsonl",
            threads=given.threads,
            repetitions=given.repetitions,
            size=0,
            precision=precision,
            model=None,
            shape=size.shape,
            tokens_per_pack=8192,
        )
        figures = measure(size, options, device, Path(scratch))
    figures = {"benchmark": "train_gpu", "device": device, "smoke": given.smoke} | figures | machine(precision)
    text = json.dumps(figures, indent=1)
    print(text, *figures["rows"], sep="\n")
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

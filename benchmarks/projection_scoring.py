"""The formula of ``seralign plan --gpu`` for memory of scoring against a scoring on this machine's processor.

    python -m benchmarks.projection_scoring PAIRS [--model FOLDER] [--size 16]

PAIRS is a file of pairs as the other benchmarks read it, FOLDER a ChatML model; without one, the model is a random
Llama. The pairs are scored in bfloat16 by a process of its own with one thread. Its peak of resident memory, loading
counted, is compared with the formula, after what a process takes in any case: that is what the same scoring under a
model of one narrow layer takes beyond its own formula.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import inputs
from benchmarks.jobs import Job
from benchmarks.models import prepare_model
from benchmarks.ours import scoring
from benchmarks.projection import cpu, narrow_model, print_memory
from benchmarks.workers import Worker
from seralign.config import PolicyConfig, ScoringConfig, load_config
from seralign.pipeline.projection.memory import part_memory
from seralign.pipeline.projection.parts import Part, Passes
from seralign.pipeline.projection.shape import model_config, model_shape


def main(arguments: list[str]) -> None:
    """Print measured and predicted bytes and their ratio."""
    parser = argparse.ArgumentParser(prog="benchmarks.projection_scoring")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--size", type=int, default=16)
    options = parser.parse_args(arguments)
    raw = inputs.read_pairs(options.pairs)
    with tempfile.TemporaryDirectory() as folder:
        own, narrow = Path(folder) / "own", Path(folder) / "narrow"
        own.mkdir()
        narrow.mkdir()
        tokenizer, weights = prepare_model(options.model, own / "model", inputs.texts(raw))
        narrow_model(str(own / "model"), str(narrow / "model"))
        rows = inputs.alpaca_pairs(raw, tokenizer, options.size)
        (least, smallest), (peak, expected) = (_scored(place, rows) for place in (narrow, own))
    print_memory(weights, peak, least - smallest, expected)


def _scored(folder: Path, rows: Sequence[inputs.Row]) -> tuple[float, float]:
    """Peak bytes of a process that scores the rows under ``folder / "model"``, and those of the formula."""
    inputs.write_rows(folder / "rows.jsonl", rows)
    with Worker(scoring, Job(folder, "bfloat16"), 1) as worker:
        worker.ask("run", len(rows))
        responses = sum(worker.ask("lengths")) / len(rows)
    tokens = round(sum(row["tokens"] for row in rows) / len(rows))
    work = Passes(len(rows), tokens, tokens, responses, ScoringConfig().tokens_per_pack)
    model = str(folder / "model")
    config = load_config(
        None, {"out": "unused", "policy.model": model, "data.pairs.path": "unused", "scoring.dtype": "bfloat16"}
    )
    shape = model_shape(model_config(PolicyConfig(model=model)), None)
    expected = part_memory(Part("score", "scoring", work), config, shape, cpu(1.0))
    return worker.peak_mb * 2**20, expected.total


if __name__ == "__main__":
    main(sys.argv[1:])

"""Pairs scored and trained on a second, and peak memory, on the AlpacaEval example's model and data.

    python -m benchmarks.alpaca_example --json FILE [--pairs FILE] [--threads N] [--precision P]

The data, the model and the settings are those of ``examples/alpaca_eval``, in one precision throughout.
"""

from __future__ import annotations

import argparse
import json
import resource
import runpy
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import add_precision, machine, precision

PAIRS = Path("../shared/data/alpaca_eval_pairs.jsonl.gz")


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--pairs", type=Path, default=PAIRS, help="data of the same format")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    add_precision(parser)
    given = parser.parse_args()
    chosen = precision(given.precision)

    import torch

    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(given.pairs, Path(scratch), chosen)
    figures |= machine(chosen)
    figures |= {"threads": given.threads, "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    print(json.dumps(figures, indent=1))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(pairs: Path, scratch: Path, precision: str) -> dict[str, Any]:
    """Score and train on the example's pairs, and time both."""
    from seralign.config import load_config
    from seralign.data.prepare import prepare_pairs
    from seralign.data.tokens import make_encoder
    from seralign.objectives import DPO, one
    from seralign.policy.abilities import packed_length
    from seralign.policy.identity import PolicySource
    from seralign.policy.load import end_tokens, load_model, load_tokenizer
    from seralign.rewards.cached_logprobs import ScoringPolicy, logps
    from seralign.rewards.responses import Responses, plan_scoring
    from seralign.training.batches import row_sizes
    from seralign.training.plan import plan_training
    from seralign.training.train import TrainingData, train

    model = scratch / "model"
    sys.argv = ["prepare.py", str(pairs), str(model)]
    runpy.run_path("examples/alpaca_eval/prepare.py", run_name="__main__")
    config = load_config("examples/alpaca_eval/run.yaml", {"policy.model": str(model)})
    assert config.data.pairs is not None
    source = PolicySource(str(model))
    tokenizer = load_tokenizer(source, config.policy)
    encoder = make_encoder(tokenizer, config.data, end_tokens(source, tokenizer))
    table, _ = prepare_pairs(replace(config.data.pairs, path=str(pairs)), encoder, scratch / "pairs.arrow", "--pairs")

    responses = Responses(table)
    longest = packed_length(source, config.policy)
    packs = plan_scoring(responses, config.scoring.tokens_per_pack, longest)
    policy = ScoringPolicy("policy", "", lambda: load_model(source, config.policy, "float32"), precision=precision)
    policy.load()
    began = time.monotonic()
    found = logps(responses, packs, policy, None)
    scoring = time.monotonic() - began

    training = replace(config.training, save_steps=10**6, precision=precision)
    plan = plan_training(row_sizes(table, "all"), training, seed=0, packed_length=longest)
    reference = found.reshape(2, -1)
    began = time.monotonic()
    train(
        load_model(source, config.policy, "float32"),
        tokenizer,
        TrainingData(table, plan, reference),
        one("dpo", DPO(0.1)),
        training,
        scratch / "train",
        section="training",
        seed=0,
        label="training",
        log_folder=scratch / "logs",
    )
    tokens = int(responses.whole_lengths.sum())
    return {
        "pairs": len(table),
        "tokens_per_pair": round(tokens / len(table), 1),
        "scored_pairs_per_second": round(len(table) / scoring, 2),
        "trained_pairs_per_second": round(len(table) / (time.monotonic() - began), 2),
    }


if __name__ == "__main__":
    main()

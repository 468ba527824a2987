"""One SeRA round of SmolLM2-135M-Instruct, all stages: the script of ``round``, and seralign.

    python -m benchmarks.round_smollm2 --json FILE [--model FOLDER] [--pairs FILE] [--threads N]

As ``round``, with a real model: 30 layers, width 576, a vocabulary of 49,152. The model is the one that
``make demo-llm`` converts. Its ChatML template is cut after the end token on both sides. A trained model ends its
responses itself, and each question asks for one short sentence; responses that are cut at 96 tokens make no pair on
either side.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import inputs
from benchmarks.common import SMOLLM2, Options, run
from benchmarks.models import copy_chatml_model
from benchmarks.round import measure_round, round_job, round_sizes, write_round_rows

_MAX_NEW_TOKENS = 96
_SHORT = "Answer in one short sentence."


def measure(options: Options, scratch: Path) -> dict[str, Any]:
    """``size`` counts offline pairs; there are half as many prompts."""
    from benchmarks import round_ours, round_peer

    assert options.model is not None
    job = replace(round_job(options, scratch), max_new_tokens=_MAX_NEW_TOKENS)
    tokenizer, parameters = copy_chatml_model(options.model, scratch / "model")
    raw = [row | {"prompt": f"{_SHORT} {row['prompt']}"} for row in inputs.read_pairs(options.pairs)]
    write_round_rows(raw, tokenizer, job)
    figures = measure_round(job, options, (round_peer.side, round_ours.side, round_ours.preparation))
    return figures | {"sizes": round_sizes(job, parameters)}


if __name__ == "__main__":
    run("round_smollm2", __doc__, 8, measure, model=SMOLLM2)

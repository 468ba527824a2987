"""Log-probabilities of long dialogues with short answers: TRL's reference precomputation at its best, and seralign.

    python -m benchmarks.score_long_prompt --json FILE [--pairs FILE] [--threads N]

Prompts of 400 tokens in four turns and answers of 80 tokens, made from AlpacaEval pairs, each prompt with one pair; all
else as in ``score_alpaca``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.common import Options, run


def measure(options: Options, scratch: Path) -> dict[str, Any]:
    """``size`` counts pairs."""
    from benchmarks import ours, peers
    from benchmarks.inputs import long_prompts
    from benchmarks.scoring import Sides, measure_scoring

    sides = Sides(peers.precomputation, ours.scoring, "trl.DPOTrainer, precompute_ref_log_probs", "pairs", 1)
    return measure_scoring(options, scratch, long_prompts, sides)


if __name__ == "__main__":
    run("score_long_prompt", __doc__, 128, measure)
